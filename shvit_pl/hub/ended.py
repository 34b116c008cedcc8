"""A run that has ended, as it is pushed: what it says of itself, without the machine's paths, and its weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from shvit_pl.errors import UserError, one_line
from shvit_pl.hub.privacy import Paths
from shvit_pl.runs.folder import BEST, CHECKPOINTS, CONFIG, SUMMARY, checkpoint_of_run, finished_run, read_summary
from shvit_pl.runs.metrics import EMA

Weights = Literal["raw", "ema"]


@dataclass(frozen=True)
class EndedRun:
    """A run folder, read.

    Attributes:
        folder: The run's.
        summary: Its `summary.json`, without the machine's paths.
        config: Its `config.yaml`, likewise.
        paths: What cleans further texts of them.
        checkpoint: `best.ckpt`, or `last.ckpt` of a run without validation.
        averaged: Whether the averaged weights are pushed instead of the weights themselves.
    """

    folder: Path
    summary: dict[str, Any]
    config: dict[str, Any]
    paths: Paths
    checkpoint: Path
    averaged: bool

    @property
    def is_best(self) -> bool:
        """Whether the weights are those of the best epoch."""
        return self.checkpoint.name == BEST

    @property
    def metrics(self) -> dict[str, float]:
        """Validation metrics of the pushed weights, by `acc1`, `acc5` and `loss`."""
        return self.measured(self.averaged)

    def measured(self, averaged: bool) -> dict[str, float]:
        """Validation metrics of the checkpoint's weights, or of their average, by `acc1`, `acc5` and `loss`."""
        every: dict[str, float] = self.summary["metrics" if self.is_best else "last_metrics"]
        chosen = {name: value for name, value in every.items() if name.endswith(EMA) == averaged}
        return {name.removeprefix("val/").removesuffix(EMA): value for name, value in chosen.items()}


def open_run(folder: Path, weights: Weights | None = None) -> EndedRun:
    """Read a run folder.

    Args:
        folder: Of a run that ended well.
        weights: Which ones to push; by default those that the monitored metric was measured on.

    Raises:
        UserError: for any other folder, and for weights that the run does not have.
    """
    _check_folder(folder)
    try:
        config: dict[str, Any] = yaml.safe_load((folder / CONFIG).read_text())
        summary = read_summary(folder)
        averaged = summary["monitor"].endswith(EMA) if weights is None else weights == "ema"
        has_average = bool(config["model"]["ema"]["decay"])
    except (ValueError, yaml.YAMLError, LookupError, TypeError) as error:
        raise UserError(f"{str(folder)!r}: its {CONFIG} or {SUMMARY} is damaged ({one_line(error)[:120]}).") from error
    if averaged and not has_average:
        raise UserError("--weights ema: the run has no averaged weights (its model.ema.decay was 0); leave it out.")
    paths = Paths(config)
    return EndedRun(folder, paths.summary(summary), paths.config(config), paths, _checkpoint(folder), averaged)


def _check_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise UserError(f"{str(folder)!r}: no such folder. Give a run folder, such as runs/s1/version_0.")
    if not (folder / CONFIG).is_file():
        newest = finished_run(folder)
        advice = f"give {newest}" if newest else "give one, such as runs/s1/version_0"
        raise UserError(f"{str(folder)!r}: no run folder of shvit-pl fit (it has no {CONFIG}); {advice}.")
    if not (folder / SUMMARY).is_file():
        raise UserError(
            f"{str(folder)!r}: this run has not ended (it has no {SUMMARY}). Wait for its end, or go on with it: the "
            "same shvit-pl fit with --ckpt_path last."
        )


def _checkpoint(folder: Path) -> Path:
    found = checkpoint_of_run(folder)
    if found is not None:
        return found
    raise UserError(
        f"{str(folder)!r}: the run has no checkpoint ({CHECKPOINTS}/{BEST} or last.ckpt), so there are no weights to "
        "push. Give the folder of a run that kept them."
    )
