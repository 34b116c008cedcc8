"""Checks of a sweep by `fit`: every flag, value and cell, before the first run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import shorten
from typing import Any

from shvit_pl.command_line.parser import SECTIONS, nearest_option
from shvit_pl.errors import UserError, did_you_mean
from shvit_pl.fit.check import FitCheck, Planned
from shvit_pl.runs.metrics import EMA, MONITORS
from shvit_pl.sweep.options import own_flags
from shvit_pl.sweep.plan.definition import Definition, as_flags, short_names
from shvit_pl.sweep.plan.sweep_file import IN_FILE, SweepFile

# flags that the sweep sets for each run, and where a user sets them instead
_SET_BY_SWEEP = {
    "seed_everything": "set by seeds in the sweep file",
    "monitor": "set by objective in the sweep file",
    "run_name": "each run is named after its point",
    "trainer.default_root_dir": "set by --folder",
    "ckpt_path": "interrupted runs resume by themselves",
    "plain": "runs write to log files",
    "push_to": "shvit-pl push SWEEP_FOLDER pushes the best run",
    "trainer.logger": "each run keeps its run folder",
    "trainer.fast_dev_run": "each run keeps its run folder",
    "trainer.num_nodes": "each run uses one machine; several machines share a sweep by --storage",
}
_SHOWN = 3  # mistakes in a message
_LONGEST = 110  # characters of one of several


def check_flags(file: SweepFile, flags: Sequence[str], fit: FitCheck) -> None:
    """Raise `UserError` for a flag that neither `sweep` nor `fit` has, or that the sweep itself sets or varies."""
    names = [arg.partition("=")[0].removeprefix("--").rstrip("+") for arg in flags if arg.startswith("--")]
    known = fit.flags()
    for name in names:
        _check_not_set_by_sweep(name, f"--{name}")
        if not _is_of_fit(name, known):
            own = [f"--{flag}" for flag in own_flags()]
            hint = did_you_mean(f"--{name}", own) or nearest_option(name, known, "--")
            raise UserError(f"--{name}: no such flag of sweep or fit{hint}; see shvit-pl sweep --help and fit --help.")
        if file.rows is None and name in file.varied:
            raise UserError(f"--{name}: {file.path} varies it; leave one of the two out.")
    for name in file.varied:
        _check_not_set_by_sweep(name, f"--config {str(file.path)!r}: {name}")
        if not _is_of_fit(name, known):
            hint = nearest_option(name, known)
            raise UserError(f"--config {str(file.path)!r}: {name}: no such flag of fit{hint}; see shvit-pl fit --help.")


def check_strays(flags: Sequence[str]) -> None:
    """Raise `UserError` for what is neither a flag nor the value of the flag before it."""
    for before, arg in zip(("", *flags), flags, strict=False):
        if not arg.startswith("-") and (not before.startswith("-") or "=" in before):
            advice = f"give it as --config {arg}" if arg.endswith((".yaml", ".yml")) else "give it after its flag"
            raise UserError(f"{arg}: an argument without a flag; {advice}.")


def _check_not_set_by_sweep(name: str, where: str) -> None:
    """Raise `UserError` for a flag that the sweep itself sets for each run."""
    reason = _SET_BY_SWEEP.get(name) or ("set in the sweep file" if name in IN_FILE else None)
    if reason is not None:
        raise UserError(f"{where}: not to be set here; {reason}.")


def _is_of_fit(name: str, known: set[str]) -> bool:
    """Return whether `fit` has this flag, or one that it belongs to, such as trainer.callbacks."""
    return name in known or any(name.startswith(f"{flag}.") for flag in known - SECTIONS.keys())


@dataclass(frozen=True)
class OpenedCell:
    """A cell that `fit` accepts."""

    name: str
    """Name of the cell; for a search, the values that are tried."""
    flags: tuple[str, ...]
    """Flags of `fit` for a run of it."""
    planned: Planned


def open_cells(definition: Definition, file: SweepFile, base: Sequence[str], fit: FitCheck) -> list[OpenedCell]:
    """Open data, weights and teacher of every cell as its runs would; raises one `UserError` for all that fail.

    For a search, each choice and the ends of each range are opened, and all whole numbers of a short one.
    """
    cells = definition.cells if file.search is None else _named(file.search.examples())
    opened: list[OpenedCell] = []
    mistakes: dict[str, str] = {}
    for name, choices in cells.items():
        flags = (*base, *as_flags(choices))
        try:
            opened.append(OpenedCell(name, flags, fit.open(flags)))
            _check_logged(definition, opened[-1].planned)
        except UserError as error:
            mistakes[name] = str(error)
    if mistakes:
        raise UserError(_joined(mistakes, len(cells)))
    return opened


def _named(examples: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    short = short_names(examples[0])
    return {", ".join(f"{short[flag]} {value}" for flag, value in choices.items()): choices for choices in examples}


def _check_logged(definition: Definition, planned: Planned) -> None:
    for objective in definition.objectives:
        if objective in MONITORS and objective not in planned.metrics:
            logged = f"logged are {', '.join(planned.metrics)}" if planned.metrics else "there is no validation"
            average = "; an average is kept with --model.ema.decay" if objective.endswith(EMA) else ""
            raise UserError(f"objective {objective}: not logged here; {logged}{average}.")


def _joined(mistakes: dict[str, str], cells: int) -> str:
    """Return one message for all cells that fail, with equal mistakes once."""
    alike: dict[str, list[str]] = {}
    for name, mistake in mistakes.items():
        for line in mistake.splitlines():
            alike.setdefault(line, []).append(name)
    if len(alike) == 1 and len(mistakes) == cells:
        return next(iter(alike))
    longest = _LONGEST * _SHOWN // min(_SHOWN, len(alike))
    texts = [f"{_and_more(names)}: {mistake.rstrip('.')}" for mistake, names in alike.items()]
    short = [shorten(text, longest, placeholder=" ...") for text in texts[:_SHOWN]]
    more = f"; and {len(texts) - _SHOWN} more" if len(texts) > _SHOWN else ""
    return f"{len(mistakes)} of {cells} cells can't run. {'; '.join(short)}{more}."


def _and_more(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} (and {len(names) - 1} more)"
