"""The state of a sweep, read from its folder and its study: which sweep it is, how far it is, and its results."""

import shlex
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from math import inf
from pathlib import Path
from statistics import mean
from typing import Any, Literal

from optuna.trial import FrozenTrial, TrialState

from shvit_pl.errors import UserError
from shvit_pl.files import check_writable
from shvit_pl.runs.folder import CONFIG, SWEEP, loss_beside, newest_runs, read_curves
from shvit_pl.sweep.definition import RUNS, Definition, Direction, Kind, Point, read_definition
from shvit_pl.sweep.engine import study as keys
from shvit_pl.sweep.engine.study import JOURNAL, SweepStudy, is_fault, open_journal
from shvit_pl.sweep.space import count_points

State = Literal["done", "pruned", "failed", "running", "waiting"]


@dataclass(frozen=True)
class Run:
    """A cell with a seed, and a fold where there are folds."""

    seed: int
    state: State
    """`failed` where the last try failed, which may be tried again."""
    summary: dict[str, Any] | None
    """`summary.json` of a run that is done or pruned."""
    curves: dict[str, list[tuple[float, float]]]
    """Validation metrics over epochs (from 1): `{"val/acc1": [(1.0, 0.31), (2.0, 0.45)]}`."""
    folder: str | None
    """The run folder, relative to the sweep's."""
    command: str
    """The command that repeats the run; empty before it is known."""
    error: str | None = None
    """The last error line of a failed run."""
    fold: int = 0
    """Counted from 1; 0 without folds."""

    @property
    def unit(self) -> tuple[int, int]:
        """Seed and fold, by which runs of different cells are paired."""
        return self.seed, self.fold

    @property
    def label(self) -> str:
        """Seed and fold: `seed 0`, or `seed 0, fold 2`."""
        return f"seed {self.seed}" + f", fold {self.fold}" * bool(self.fold)


@dataclass(frozen=True)
class Cell:
    """A choice and its runs."""

    name: str
    """A short name, unique in the sweep: `patch_size 4, stages 3, stage1 conv`."""
    choices: dict[str, Any]
    """Flags of `fit` and their values: `{"model.design.patch_size": 4, ...}`."""
    runs: tuple[Run, ...]

    @cached_property
    def done(self) -> tuple[Run, ...]:
        """The runs that ended well."""
        return tuple(run for run in self.runs if run.state == "done")


@dataclass(frozen=True)
class Results:
    """Everything that a report is made from."""

    title: str
    kind: Kind
    objectives: dict[str, Direction]
    cells: tuple[Cell, ...]
    """The cells in the order of the sweep file."""
    speed: dict[str, Any] | None = None
    """Inference speed of the cells, as `shvit_pl.sweep.speed` returns it; `None` before it is measured."""
    is_whole_space: bool = False
    """A search that has every point of its space."""
    folds: int = 0
    """Folds of a cross-validation; 0 for none."""


_STATES: dict[TrialState, State] = {
    TrialState.COMPLETE: "done", TrialState.PRUNED: "pruned", TrialState.RUNNING: "running",
    TrialState.WAITING: "waiting", TrialState.FAIL: "failed",
}  # fmt: skip


@dataclass(frozen=True)
class RunStatus:
    """A run that goes on or has ended."""

    point: Point
    seconds: float
    """Time since its start, up to its end."""
    command: str = ""
    values: tuple[float, ...] = ()
    """Values of the objectives; none of a run that goes on or failed."""
    error: str | None = None
    pruned: bool = False
    loss: float = inf
    """Validation loss at the best epoch, which decides between equal values; infinite where it is unknown."""
    before: tuple[str, ...] = ()
    """Errors of the tries before."""


@dataclass(frozen=True)
class Status:
    """The progress of a sweep."""

    total: int
    ended: tuple[RunStatus, ...]
    """Points that are done, in their order."""
    failed: tuple[RunStatus, ...]
    """Points that are given up."""
    running: tuple[RunStatus, ...]
    """Points that run."""
    seconds_left: float | None
    """Estimate from the runs so far; None before the first one ends."""
    objectives: Mapping[str, Direction]

    @property
    def left(self) -> int:
        """Number of points that are neither done nor given up."""
        return self.total - len(self.ended) - len(self.failed)

    @property
    def best(self) -> RunStatus | None:
        """The best run so far in the first objective."""
        sign = -1 if next(iter(self.objectives.values())) == "max" else 1
        return min(self.ended, key=lambda run: (sign * run.values[0], run.loss), default=None)


def read_status(study: SweepStudy, definition: Definition, retries: int) -> Status:
    """Return the progress of a sweep, with an estimate of the time left.

    A run takes as long as those of its cell took, or of all cells, and as many run at a time as now.
    """
    by_key = study.trials_by_key()
    ended, failed, running, waiting = list[RunStatus](), list[RunStatus](), list[RunStatus](), list[Point]()
    seconds: dict[str, list[float]] = {}  # durations of the runs that are done, by cell
    for key, point in definition.points.items():
        trials = by_key.get(key, [])
        trial = representative_trial(trials)
        if trial is None or trial.state == TrialState.WAITING:
            waiting.append(point)
        elif trial.state == TrialState.FAIL and not study.has_failed(trials, retries):
            waiting.append(point)  # it is tried again
        elif trial.state in keys.DONE:
            ended.append(_run_status(point, trial, trials, next(iter(definition.objectives))))
            seconds.setdefault(point.cell, []).append(ended[-1].seconds)
        else:
            (running if trial.state == TrialState.RUNNING else failed).append(_run_status(point, trial, trials))
    left = None
    if ended:
        usual = mean(run.seconds for run in ended)
        expected = {cell: mean(values) for cell, values in seconds.items()}
        left = sum(expected.get(point.cell, usual) for point in waiting)
        left += sum(max(0.0, expected.get(run.point.cell, usual) - run.seconds) for run in running)
        left /= max(1, len(running))
    return Status(len(definition.points), tuple(ended), tuple(failed), tuple(running), left, definition.objectives)


def representative_trial(trials: Sequence[FrozenTrial]) -> FrozenTrial | None:
    """Return a point's trial that is done, else the last that runs, else the last that waits, else the last fault."""
    newest = [*reversed(trials)]
    live = [trial for state in (TrialState.RUNNING, TrialState.WAITING) for trial in newest if trial.state == state]
    return next(
        iter([*(trial for trial in trials if trial.state in keys.DONE), *live, *filter(is_fault, newest)]), None
    )


def _run_status(point: Point, trial: FrozenTrial, trials: Sequence[FrozenTrial], objective: str = "") -> RunStatus:
    start, end = trial.datetime_start, trial.datetime_complete or datetime.now()
    seconds = (end - start).total_seconds() if start is not None else 0.0
    values, error = tuple(trial.values or ()), trial.user_attrs.get(keys.ERROR)
    metrics = (trial.user_attrs.get(keys.SUMMARY) or {}).get("metrics", {})
    loss = metrics.get(loss_beside(objective), inf)
    others = [each.user_attrs for each in trials if each.number < trial.number]
    before = tuple(each[keys.ERROR] for each in others if keys.ERROR in each and keys.REPEATED not in each)
    return RunStatus(point, seconds, _command(trial), values, error, trial.state == TrialState.PRUNED, loss, before)


def _command(trial: FrozenTrial) -> str:
    """Return the command of a trial's run; empty before it is known."""
    flags = trial.user_attrs.get(keys.COMMAND)
    return shlex.join(["shvit-pl", "fit", *flags]) if flags is not None else ""


def recorded(folder: Path) -> Definition | None:
    """Return the sweep that a folder has; None for a new one.

    Raises `UserError` for a folder that can't be written, is a run's, or has lost its record.
    """
    check_writable("--folder", str(folder))
    if (folder / CONFIG).is_file():
        raise UserError(f"--folder {str(folder)!r}: the folder of a run; give one for the sweep, such as sweeps/macro.")
    if (folder / SWEEP).is_file():
        return read_definition(folder)
    if (folder / JOURNAL).is_file():
        raise UserError(f"--folder {str(folder)!r}: its {SWEEP} is missing; give another folder.")
    return None


def results_of(folder: Path) -> Results:
    """Return a sweep folder's results; raises `UserError` where there are none."""
    definition, study = read_definition(folder), None
    with suppress(KeyError):  # a driver that was killed before it stored the study
        study = SweepStudy(open_journal(folder)) if (folder / JOURNAL).is_file() else None
    if study is None:
        raise UserError(f"--folder {str(folder)!r}: its {JOURNAL} is missing; give the folder of another sweep.")
    return read_results(study, definition, folder)


def read_results(study: SweepStudy, definition: Definition, folder: Path) -> Results:
    """Return the results so far."""
    by_key = study.trials_by_key()
    runs: dict[str, list[Run]] = {name: [] for name in definition.cells}
    choices = dict(definition.cells)
    for key, point in definition.points.items():
        trial = representative_trial(by_key.get(key, []))
        if trial is None:
            runs[point.cell].append(Run(point.seed, "waiting", None, {}, None, "", fold=point.fold))
            continue
        attrs, state = trial.user_attrs, _STATES[trial.state]
        newest = next(iter(newest_runs(folder / RUNS / key)), None)
        curves = attrs.get(keys.CURVES) or (read_curves(newest) if newest is not None else {})
        where = attrs.get(keys.RUN) or (str(newest.relative_to(folder)) if newest is not None else None)
        error = attrs.get(keys.ERROR) if state == "failed" else None
        summary, command = attrs.get(keys.SUMMARY), _command(trial)
        runs[point.cell].append(Run(point.seed, state, summary, curves, where, command, error, point.fold))
        if definition.search is not None:
            choices[point.cell] = dict(trial.params)
    cells = tuple(Cell(name, choices[name], tuple(runs[name])) for name in definition.cells)
    speed = study.optuna_study.user_attrs.get(keys.SPEED)
    is_whole = definition.search is not None and count_points(definition.search["space"]) == len(cells)
    return Results(
        folder.absolute().name, definition.kind, definition.objectives, cells, speed, is_whole, definition.folds
    )
