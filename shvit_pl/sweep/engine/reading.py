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

from shvit_pl.errors import UserError, collected, refuse
from shvit_pl.files import check_writable
from shvit_pl.runs.folder import CONFIG, SWEEP, loss_beside, newest_runs, read_curves
from shvit_pl.sweep.definition import RUNS, Definition, Direction, Kind, Point, read_record
from shvit_pl.sweep.engine.storage import JOURNAL, hide_password, open_storage
from shvit_pl.sweep.engine.sweep_study import COMMAND, CURVES, DONE, ERROR, RUN, SPEED, SUMMARY, SweepStudy, is_fault
from shvit_pl.sweep.options import storage_mistakes
from shvit_pl.sweep.space import count_points

State = Literal["done", "pruned", "failed", "running", "waiting"]


@dataclass(frozen=True)
class Run:
    """A cell with a seed."""

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


@dataclass(frozen=True)
class Status:
    """The progress of a sweep."""

    total: int
    ended: tuple[RunStatus, ...]
    """Points that are done, in their order."""
    failed: tuple[RunStatus, ...]
    """Points that are given up."""
    running: tuple[RunStatus, ...]
    """Points that run, on all machines."""
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
        elif trial.state in DONE:
            ended.append(_run_status(point, trial, next(iter(definition.objectives))))
            seconds.setdefault(point.cell, []).append(ended[-1].seconds)
        else:
            (running if trial.state == TrialState.RUNNING else failed).append(_run_status(point, trial))
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
    return next(iter([*(trial for trial in trials if trial.state in DONE), *live, *filter(is_fault, newest)]), None)


def _run_status(point: Point, trial: FrozenTrial, objective: str = "") -> RunStatus:
    start, end = trial.datetime_start, trial.datetime_complete or datetime.now()
    seconds = (end - start).total_seconds() if start is not None else 0.0
    values, error = tuple(trial.values or ()), trial.user_attrs.get(ERROR)
    metrics = (trial.user_attrs.get(SUMMARY) or {}).get("metrics", {})
    loss = metrics.get(loss_beside(objective), inf)
    return RunStatus(point, seconds, _command(trial), values, error, trial.state == TrialState.PRUNED, loss)


def _command(trial: FrozenTrial) -> str:
    """Return the command of a trial's run; empty before it is known."""
    flags = trial.user_attrs.get(COMMAND)
    return shlex.join(["shvit-pl", "fit", *flags]) if flags is not None else ""


@dataclass(frozen=True)
class Place:
    """The place of a sweep: its folder and its study."""

    folder: Path
    storage: str | None
    """URL of the study's database; None for the journal in the folder."""
    study: str

    @property
    def flag(self) -> str:
        """The flag that names the study, and its value."""
        return f"--study {self.study!r}" if self.storage else f"--folder {str(self.folder)!r}"

    def existing_study(self) -> SweepStudy | None:
        """Open the study; None where there is none, which stays so."""
        if self.storage is None and not (self.folder / JOURNAL).is_file():
            return None
        with suppress(KeyError):
            return SweepStudy(open_storage(self.folder, self.storage), self.study)
        return None

    def recorded(self) -> list[tuple[Definition, str]]:
        """Return the sweeps that the folder and the study record, each with the flag that names the place."""
        recorded = []
        if (self.folder / SWEEP).is_file():
            stored = Definition.from_dict(read_record(self.folder)["definition"])
            recorded.append((stored, f"--folder {str(self.folder)!r}"))
        study = self.existing_study()
        definition = study.definition() if study is not None else None
        return [*recorded, (definition, self.flag)] if definition is not None else recorded


def find_place(folder: Path, storage: str | None, study: str | None) -> Place:
    """Return the place of a sweep; without `study`, the study is that of the folder's sweep, or has the folder's name.

    Raises `UserError` for a folder that can't be written or is a run's, a storage that can't be reached, or a folder
    whose sweep is in another study.
    """
    mistakes, where = list[str](), f"--folder {str(folder)!r}"
    if storage is not None:
        with collected(mistakes):
            open_storage(folder, storage)
    with collected(mistakes):
        check_writable("--folder", str(folder))
        if (folder / CONFIG).is_file():
            raise UserError(f"{where}: the folder of a run; give one for the sweep, such as sweeps/macro.")
        known = read_record(folder) if (folder / SWEEP).is_file() else {"storage": storage}
        name = known.get("study", study or folder.resolve().name)
        if study not in (None, name) or (known["storage"] is None) != (storage is None):
            flags = f"--storage {known['storage']} --study {name}" if known["storage"] else "neither"
            reason = "its sweep is not in the study of --storage and --study"
            raise UserError(f"{where}: {reason}; give {flags}, or another --folder.")
    refuse(mistakes)
    return Place(folder, storage, str(name))


def results_of(folder: Path, storage: str | None = None) -> Results:
    """Return a sweep folder's results; `storage` replaces the URL in sweep.yaml. Raises `UserError` where none are."""
    mistakes = [*storage_mistakes(storage)]
    with collected(mistakes):
        record = read_record(folder)
    refuse(mistakes)
    place = Place(folder, hide_password(storage) if storage else record["storage"], record["study"])
    study = place.existing_study()
    if study is None:
        where = place.storage or f"its {JOURNAL}"
        missing = f"no study {place.study!r} in {where}"
        raise UserError(f"--folder {str(folder)!r}: {missing}; give another --storage.")
    return read_results(study, study.definition() or Definition.from_dict(record["definition"]), folder)


def read_results(study: SweepStudy, definition: Definition, folder: Path) -> Results:
    """Return the results so far."""
    by_key = study.trials_by_key()
    runs: dict[str, list[Run]] = {name: [] for name in definition.cells}
    choices = dict(definition.cells)
    for key, point in definition.points.items():
        trial = representative_trial(by_key.get(key, []))
        if trial is None:
            runs[point.cell].append(Run(point.seed, "waiting", None, {}, None, ""))
            continue
        attrs, state = trial.user_attrs, _STATES[trial.state]
        newest = next(iter(newest_runs(folder / RUNS / key)), None)
        curves = attrs.get(CURVES) or (read_curves(newest) if newest is not None else {})
        where = attrs.get(RUN) or (str(newest.relative_to(folder)) if newest is not None else None)
        error = attrs.get(ERROR) if state == "failed" else None
        runs[point.cell].append(Run(point.seed, state, attrs.get(SUMMARY), curves, where, _command(trial), error))
        if definition.search is not None:
            choices[point.cell] = dict(trial.params)
    cells = tuple(Cell(name, choices[name], tuple(runs[name])) for name in definition.cells)
    speed = study.optuna_study.user_attrs.get(SPEED)
    is_whole = definition.search is not None and count_points(definition.search["space"]) == len(cells)
    return Results(folder.absolute().name, definition.kind, definition.objectives, cells, speed, is_whole)
