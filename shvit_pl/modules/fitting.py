"""Whether a checkpoint and the data fit to a module."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from shvit_pl.designs.design import Design
from shvit_pl.errors import UserError

NO_AVERAGE = "model.use_ema true: the checkpoint has no averaged weights (model.ema.decay was 0); leave it out."


def check_design(theirs: Design, ours: Design) -> None:
    """Raise `UserError` for a checkpoint of another design."""
    there, here = asdict(theirs), asdict(ours)
    different = [f"{key} is {there[key]} there and {here[key]} here" for key in here if here[key] != there[key]]
    if different:
        raise UserError(
            f"ckpt_path: the checkpoint is of another model.design ({'; '.join(different)}). Go on with the design "
            "that it was trained with, or start a new run with --model.init_from."
        )


def check_average(theirs: float, ours: float, wanted: bool) -> None:
    """Raise `UserError` for a checkpoint that lacks an average, or has one too many; both are given by their decay."""
    if wanted and not theirs:
        raise UserError(NO_AVERAGE)
    if bool(theirs) != bool(ours):
        holds = f"averaged weights (its decay was {theirs})" if theirs else "no averaged weights"
        raise UserError(
            f"model.ema.decay {ours}: the checkpoint holds {holds}. Leave model.ema as it was, or start a new run with "
            "--model.init_from."
        )


def check_number_of_classes(flag: str, class_names: Sequence[str]) -> None:
    """Raise `UserError` where there is nothing to tell apart."""
    if len(class_names) < 2:
        raise UserError(f"{flag}: classification needs two classes or more, and there is {len(class_names) or 'none'}.")


def check_same_classes(found: Sequence[str], ours: Sequence[str]) -> None:
    """Raise `UserError` for data of other classes than the model's."""
    if list(found) != list(ours):
        raise UserError(
            f"data.path: the data has {len(found)} classes ({', '.join(found[:3])}, ...), the model {len(ours)} "
            f"({', '.join(ours[:3])}, ...), and they must be the same. Give the data that the model was trained on, or "
            "start a new run with --model.init_from."
        )
