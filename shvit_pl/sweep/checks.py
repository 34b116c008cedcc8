"""A sweep against `fit`: every flag, value and cell, before the first run."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from shvit_pl.errors import UserError, did_you_mean
from shvit_pl.fit_check import FitCheck, Planned
from shvit_pl.sweep.definition import Definition
from shvit_pl.sweep.grid import as_flags, cells_of, short_names
from shvit_pl.sweep.objectives import MONITORS
from shvit_pl.sweep.options import own_flags
from shvit_pl.sweep.sweep_file import KINDS, SweepFile

# what the sweep says to each run, and where a user says it
_OWN = {
    "seed_everything": "seeds in the sweep file say it",
    "monitor": "objective in the sweep file says it",
    "run_name": "each run has the name of its point",
    "trainer.default_root_dir": "--folder says it",
    "ckpt_path": "interrupted runs go on by themselves",
    "plain": "runs write to log files",
    "trainer.num_nodes": "a run is of one machine; several machines share a sweep by --storage",
}
_SHOWN = 3  # mistakes in a message


def check_flags(file: SweepFile, flags: Sequence[str], fit: FitCheck) -> None:
    """Raise `UserError` for a flag that neither `sweep` nor `fit` has, or that the sweep itself sets or varies."""
    known = fit.flags()
    given = [arg.partition("=")[0].removeprefix("--").rstrip("+") for arg in flags if arg.startswith("--")]
    for name in given:
        if name not in known and not name.startswith("trainer."):  # a callback's settings, for example
            hint = did_you_mean(name, [*own_flags(), *known])
            raise UserError(f"--{name}: no such flag of sweep or fit{hint}; see shvit-pl sweep --help and fit --help.")
        if name in (file.grid or {}):
            raise UserError(f"--{name}: the grid varies it; leave one of the two out.")
    for name in [*given, *_chosen(file)]:
        if name in _OWN:
            raise UserError(f"{name}: not to be set here; {_OWN[name]}.")


def _chosen(file: SweepFile) -> list[str]:
    rows = [file.grid or {}, *(file.rows or {}).values(), file.search.space if file.search else {}]
    return [flag for row in rows for flag in row]


def define(file: SweepFile, base: Sequence[str], fit: FitCheck) -> Definition:
    """What a sweep file means with these flags of `fit`; raises `UserError` for flags that `fit` refuses."""
    settings = fit.settings(base)
    varied = {"seed_everything", "monitor", *_chosen(file)}
    fixed = {name: value for name, value in settings.items() if not _is_within(name, varied)}
    search = {key: value for key, value in asdict(file.search).items() if key != "n_trials"} if file.search else None
    kind = next(kind for kind, given in zip(KINDS, (file.grid, file.rows, file.search), strict=True) if given)
    return Definition(kind, _plain(cells_of(file)), file.seeds, dict(file.objectives), _plain(fixed), _plain(search))


@dataclass(frozen=True)
class Opened:
    """A cell that `fit` takes.

    Attributes:
        name: Of the cell; of a search, the values that are tried.
        flags: Of `fit`, for a run of it.
        planned: What it would train.
    """

    name: str
    flags: tuple[str, ...]
    planned: Planned


def open_cells(definition: Definition, file: SweepFile, base: Sequence[str], fit: FitCheck) -> list[Opened]:
    """Open data, weights and teacher of every cell as its runs would; raises `UserError` with all that fail together.

    Of a search, the ends of each range and each choice are opened.
    """
    cells = definition.cells if file.search is None else _named(file.search.examples())
    opened: list[Opened] = []
    mistakes: dict[str, str] = {}
    for name, choices in cells.items():
        flags = (*base, *as_flags(choices))
        try:
            opened.append(Opened(name, flags, fit.open(flags)))
            _check_logged(definition, opened[-1].planned)
        except UserError as error:
            mistakes[name] = str(error)
    if mistakes:
        raise UserError(_together(mistakes, len(cells)))
    return opened


def _named(examples: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    short = short_names(list(examples[0]))
    return {", ".join(f"{short[flag]} {value}" for flag, value in choices.items()): choices for choices in examples}


def _check_logged(definition: Definition, planned: Planned) -> None:
    for objective in definition.objectives:
        if objective in MONITORS and objective not in planned.metrics:
            raise UserError(f"objective {objective}: not logged here; logged are {', '.join(planned.metrics)}.")


def _together(mistakes: dict[str, str], cells: int) -> str:
    """One message for all cells that fail; the same mistake is said once."""
    alike: dict[str, list[str]] = {}
    for name, mistake in mistakes.items():
        alike.setdefault(mistake, []).append(name)
    if len(alike) == 1 and len(mistakes) == cells:
        return next(iter(alike))
    said = [f"{' and '.join(names[:_SHOWN])}: {mistake}" for mistake, names in alike.items()]
    more = f" (and {len(said) - _SHOWN} other mistakes)" if len(said) > _SHOWN else ""
    return f"{len(mistakes)} of {cells} cells can't run. {' '.join(said[:_SHOWN])}{more}"


def _is_within(name: str, varied: Iterable[str]) -> bool:
    """Whether a setting is varied, by itself or with its section."""
    return any(name == flag or name.startswith(f"{flag}.") for flag in varied)


def _plain(value: Any) -> Any:
    """As it comes back from the study."""
    return json.loads(json.dumps(value, default=str))
