"""What a sweep's folder and study hold: which sweep it is, how far it is, and its results."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from statistics import mean
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from shvit_pl.command_line.checks import check_writable
from shvit_pl.errors import UserError
from shvit_pl.runs.folder import CONFIG, newest_run, read_curves
from shvit_pl.sweep.engine.folder import JOURNAL, RUNS, SWEEP, read_record
from shvit_pl.sweep.engine.storage import hide_password, open_storage
from shvit_pl.sweep.engine.sweep_study import (
    COMMAND,
    CURVES,
    DONE,
    ERROR,
    OWNER,
    RUN,
    SPEED,
    SUMMARY,
    SweepStudy,
    is_fault,
)
from shvit_pl.sweep.plan.definition import Definition, Direction, Point
from shvit_pl.sweep.results import Cell, Results, Run, State

_STATES: dict[TrialState, State] = {
    TrialState.COMPLETE: "done",
    TrialState.PRUNED: "pruned",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "waiting",
    TrialState.FAIL: "failed",
}


@dataclass(frozen=True)
class Running:
    """A run that goes on."""

    point: Point
    owner: Mapping[str, Any]
    """The worker."""
    seconds: float
    """Time since its start."""
    command: str = ""


@dataclass(frozen=True)
class Ended:
    """A run that has ended."""

    point: Point
    values: tuple[float, ...]
    """Values of the objectives; none of a run that failed."""
    error: str | None
    seconds: float
    command: str = ""
    pruned: bool = False
    """Ended early by the pruner."""


@dataclass(frozen=True)
class Status:
    """The progress of a sweep."""

    total: int
    """Number of points."""
    ended: tuple[Ended, ...]
    """Points that are done, in their order."""
    failed: tuple[Ended, ...]
    """Points that are given up."""
    running: tuple[Running, ...]
    """Points that run, on all machines."""
    seconds_left: float | None
    """Estimate from the runs so far; None before the first one ends."""
    objectives: Mapping[str, Direction]

    @property
    def left(self) -> int:
        """Number of points that are neither done nor given up."""
        return self.total - len(self.ended) - len(self.failed)

    @property
    def waiting(self) -> int:
        """Number of points that wait for a worker."""
        return self.left - len(self.running)

    @property
    def best(self) -> Ended | None:
        """The best run so far in the first objective."""
        pick = max if next(iter(self.objectives.values())) == "max" else min
        return pick(self.ended, key=lambda run: run.values[0], default=None)


def read_status(study: SweepStudy, definition: Definition, retries: int) -> Status:
    """Count the points of a sweep."""
    by_key = study.trials_by_key()
    ended: list[Ended] = []
    failed: list[Ended] = []
    running: list[Running] = []
    waiting: list[Point] = []
    for key, point in definition.points.items():
        trials = by_key.get(key, [])
        match representative_trial(trials):
            case FrozenTrial(state=TrialState.COMPLETE | TrialState.PRUNED) as trial:
                ended.append(_ended(point, trial))
            case FrozenTrial(state=TrialState.RUNNING) as trial:
                running.append(Running(point, trial.user_attrs.get(OWNER, {}), _seconds(trial), _command(trial)))
            case FrozenTrial(state=TrialState.FAIL) as trial if study.has_failed(trials, retries):
                failed.append(_ended(point, trial))
            case _:
                waiting.append(point)
    left = _seconds_left(ended, running, waiting)
    total = len(definition.points)
    return Status(total, tuple(ended), tuple(failed), tuple(running), left, definition.objectives)


def representative_trial(trials: Sequence[FrozenTrial]) -> FrozenTrial | None:
    """Return a point's trial that is done, else the last that runs, else the last that waits, else the last fault."""
    done = [trial for trial in trials if trial.state in DONE]
    states = (TrialState.RUNNING, TrialState.WAITING)
    live = [trial for state in states for trial in reversed(trials) if trial.state == state]
    faults = [trial for trial in reversed(trials) if is_fault(trial)]
    return next(iter([*done, *live, *faults]), None)


def study_name(folder: Path, storage: str | None, study: str | None) -> str:
    """Return the study's name: the given one, or that of the folder's sweep, or the folder's own.

    Args:
        folder: The sweep folder.
        storage: URL of a database; None for the journal in the folder.
        study: Value of --study.

    Raises:
        UserError: for a folder that can't be written or is a run's, a storage that can't be reached, or a folder whose
            sweep is in another study.
    """
    check_writable("--folder", str(folder))
    if (folder / CONFIG).is_file():
        raise UserError(f"--folder {str(folder)!r}: a run's folder; give one for the sweep, such as sweeps/macro.")
    if storage is not None:
        open_storage(folder, storage)
    if not (folder / SWEEP).is_file():
        return study or folder.resolve().name
    record = read_record(folder)
    if record["study"] != (study or record["study"]) or (record["storage"] is None) != (storage is None):
        flags = f"--storage {record['storage']} --study {record['study']}" if record["storage"] else "neither"
        raise UserError(
            f"--folder {str(folder)!r}: its sweep has another study than --storage and --study name; give {flags}, or "
            "another --folder."
        )
    return str(record["study"])


def recorded_sweeps(folder: Path, storage: str | None, study: str) -> list[tuple[Definition, str]]:
    """Return the sweeps that the folder and the study record, with the flag that says where; makes nothing."""
    recorded = []
    if (folder / SWEEP).is_file():
        recorded.append((Definition.from_dict(read_record(folder)["definition"]), location_flag(folder, None, study)))
    if storage is not None or (folder / JOURNAL).is_file():
        try:
            stored = SweepStudy(open_storage(folder, storage), study).definition()
        except KeyError:  # no such study
            return recorded
        recorded += [(stored, location_flag(folder, storage, study))] if stored is not None else []
    return recorded


def location_flag(folder: Path, storage: str | None, study: str) -> str:
    """Return the flag that says where a sweep is, and its value."""
    return f"--study {study!r}" if storage else f"--folder {str(folder)!r}"


def results_of(folder: Path, storage: str | None = None) -> Results:
    """Return the results of the sweep in a folder.

    Args:
        folder: The sweep folder.
        storage: URL of the study's database, if the one in sweep.yaml is not to be used.

    Raises:
        UserError: for any other folder, or a study that is not there.
    """
    record = read_record(folder)
    study = _open_study(folder, hide_password(storage) or record["storage"], record["study"])
    return read_results(study, study.definition() or Definition.from_dict(record["definition"]), folder)


def read_results(study: SweepStudy, definition: Definition, folder: Path) -> Results:
    """Return the results so far."""
    by_key = study.trials_by_key()
    runs: dict[str, list[Run]] = {name: [] for name in definition.cells}
    choices = dict(definition.cells)
    for key, point in definition.points.items():
        trial = representative_trial(by_key.get(key, []))
        runs[point.cell].append(_run(point, trial, folder))
        if definition.search is not None and trial is not None:
            choices[point.cell] = dict(trial.params)
    cells = tuple(Cell(name, choices[name], tuple(runs[name])) for name in definition.cells)
    speed = study.optuna_study.user_attrs.get(SPEED)
    return Results(folder.absolute().name, definition.kind, definition.objectives, cells, speed)


def _open_study(folder: Path, storage: str | None, name: str) -> SweepStudy:
    try:
        if storage is None and not (folder / JOURNAL).is_file():  # opening it would make it
            raise KeyError(JOURNAL)
        return SweepStudy(open_storage(folder, storage), name)
    except KeyError as error:
        where = f"there is no study {name!r} in {storage or f'its {JOURNAL}'}"
        raise UserError(f"--folder {str(folder)!r}: {where}; give another --storage.") from error


def _run(point: Point, trial: FrozenTrial | None, folder: Path) -> Run:
    if trial is None:
        return Run(point.seed, "waiting", None, {}, None, "")
    attrs, state = trial.user_attrs, _STATES[trial.state]
    current = newest_run(folder / RUNS / point.key)
    return Run(
        point.seed,
        state,
        attrs.get(SUMMARY),
        attrs.get(CURVES) or (read_curves(current) if current is not None else {}),
        attrs.get(RUN) or (str(current.relative_to(folder)) if current is not None else None),
        _command(trial),
        attrs.get(ERROR) if state == "failed" else None,
    )


def _command(trial: FrozenTrial) -> str:
    """Return the command of a trial's run; empty before it is known."""
    flags = trial.user_attrs.get(COMMAND)
    return shlex.join(["shvit-pl", "fit", *flags]) if flags is not None else ""


def _ended(point: Point, trial: FrozenTrial) -> Ended:
    error, pruned = trial.user_attrs.get(ERROR), trial.state == TrialState.PRUNED
    return Ended(point, tuple(trial.values or ()), error, _seconds(trial), _command(trial), pruned)


def _seconds(trial: FrozenTrial) -> float:
    if trial.datetime_start is None:
        return 0.0
    return ((trial.datetime_complete or datetime.now()) - trial.datetime_start) / timedelta(seconds=1)


def _seconds_left(ended: Sequence[Ended], running: Sequence[Running], waiting: Sequence[Point]) -> float | None:
    """Estimate the time left: as long as runs of the same cell took, or of all cells, as many at a time as now."""
    if not ended:
        return None
    by_cell: dict[str, list[float]] = {}
    for run in ended:
        by_cell.setdefault(run.point.cell, []).append(run.seconds)
    usual = mean(run.seconds for run in ended)
    expected = {cell: mean(seconds) for cell, seconds in by_cell.items()}
    rest = sum(expected.get(point.cell, usual) for point in waiting)
    rest += sum(max(0.0, expected.get(run.point.cell, usual) - run.seconds) for run in running)
    return rest / max(1, len(running))
