"""The definition of a sweep, and the checks by `fit` of every flag, value and cell, before the first run."""

import json
from collections.abc import Sequence
from textwrap import shorten
from typing import NamedTuple

from shvit_pl.command_line.parser import SECTIONS, nearest_option
from shvit_pl.errors import UserError, did_you_mean
from shvit_pl.fit.check import FitCheck, Planned
from shvit_pl.runs.folder import EMA, MONITORS
from shvit_pl.sweep.options import own_flags
from shvit_pl.sweep.plan.definition import Definition, as_flags, short_names
from shvit_pl.sweep.plan.sweep_file import IN_FILE, SweepFile, examples

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


def define(file: SweepFile, base: Sequence[str], fit: FitCheck) -> Definition:
    """Return the definition of a sweep; raises `UserError` for flags that `fit` refuses, and runs without a folder."""
    settings, trainer = fit.settings(base), fit.trainer
    for name, refused in (("fast_dev_run", bool(trainer.fast_dev_run)), ("logger", trainer.logger is False)):
        if refused:
            where = f"trainer.{name} {trainer[name]}"
            raise UserError(f"{where}: a run of a sweep keeps its run folder; leave it out of base.")
    varied = tuple(f"{flag}." for flag in ("seed_everything", "monitor", *file.varied))
    fixed = {name: value for name, value in settings.items() if not f"{name}.".startswith(varied)}
    # values as they come back from the study
    cells, fixed, search = json.loads(json.dumps([file.cells, fixed, file.search], default=str))
    return Definition(file.kind, cells, file.seeds, file.objectives, fixed, search)


def check_flags(file: SweepFile, flags: Sequence[str], fit: FitCheck) -> None:
    """Raise `UserError` for a flag that neither `sweep` nor `fit` has, or that the sweep itself sets or varies."""
    names = [arg.partition("=")[0].removeprefix("--").rstrip("+") for arg in flags if arg.startswith("--")]
    config, known = f"--config {str(file.path)!r}: ", fit.flags()
    groups = known - SECTIONS.keys()  # such as trainer.callbacks, whose settings are flags too
    for prefix, name in [*(("--", name) for name in names), *((config, name) for name in file.varied)]:
        reason = _SET_BY_SWEEP.get(name) or ("set in the sweep file" if name in IN_FILE else None)
        if reason is not None:
            raise UserError(f"{prefix}{name}: not to be set here; {reason}.")
        if name not in known and not any(name.startswith(f"{flag}.") for flag in groups):
            if prefix == config:
                hint = nearest_option(name, known)
                raise UserError(f"{config}{name}: no such flag of fit{hint}; see shvit-pl fit --help.")
            own = [f"--{flag}" for flag in own_flags()]
            hint = did_you_mean(f"--{name}", own) or nearest_option(name, known, "--")
            raise UserError(f"--{name}: no such flag of sweep or fit{hint}; see shvit-pl sweep --help and fit --help.")
        if prefix == "--" and file.kind != "list" and name in file.varied:
            raise UserError(f"--{name}: {file.path} varies it; leave one of the two out.")


def check_strays(flags: Sequence[str]) -> None:
    """Raise `UserError` for what is neither a flag nor the value of the flag before it."""
    for before, arg in zip(("", *flags), flags, strict=False):
        if not arg.startswith("-") and (not before.startswith("-") or "=" in before):
            advice = f"give it as --config {arg}" if arg.endswith((".yaml", ".yml")) else "give it after its flag"
            raise UserError(f"{arg}: an argument without a flag; {advice}.")


class OpenedCell(NamedTuple):
    """A cell that `fit` accepts; its name (for a search, the values that are tried), and the flags of its runs."""

    name: str
    flags: tuple[str, ...]
    planned: Planned


def open_cells(definition: Definition, file: SweepFile, base: Sequence[str], fit: FitCheck) -> list[OpenedCell]:
    """Open data, weights and teacher of every cell as its runs would; raises one `UserError` for all that fail.

    For a search, each choice and the ends of each range are opened, and all whole numbers of a short one.
    """
    cells = definition.cells
    if file.search is not None:
        names, tried = short_names(file.search["space"]), examples(file.search["space"])
        cells = {", ".join(f"{names[flag]} {value}" for flag, value in row.items()): row for row in tried}
    opened: list[OpenedCell] = []
    mistakes: dict[str, list[str]] = {}  # and the cells that have them
    for name, choices in cells.items():
        flags = (*base, *as_flags(choices))
        try:
            planned = fit.open(flags)
            for objective in definition.objectives:
                if objective in MONITORS and objective not in planned.metrics:
                    logged = f"logged are {', '.join(planned.metrics)}" if planned.metrics else "there is no validation"
                    average = "; an average is kept with --model.ema.decay" if objective.endswith(EMA) else ""
                    raise UserError(f"objective {objective}: not logged here; {logged}{average}.")
            opened.append(OpenedCell(name, flags, planned))
        except UserError as error:
            for line in str(error).splitlines():
                mistakes.setdefault(line, []).append(name)
    failed = len(cells) - len(opened)
    if failed == len(cells) and len(mistakes) == 1:
        raise UserError(next(iter(mistakes)))
    if failed:
        longest = _LONGEST * _SHOWN // min(_SHOWN, len(mistakes))
        texts = []
        for mistake, (first, *others) in list(mistakes.items())[:_SHOWN]:
            more = f" (and {len(others)} more)" if others else ""
            texts.append(shorten(f"{first}{more}: {mistake.rstrip('.')}", longest, placeholder=" ..."))
        hidden = f"; and {len(mistakes) - _SHOWN} more" if len(mistakes) > _SHOWN else ""
        raise UserError(f"{failed} of {len(cells)} cells can't run. {'; '.join(texts)}{hidden}.")
    return opened
