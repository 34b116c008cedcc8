"""How far a sweep is: what is done, has failed or runs, and the time that is left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import mean
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from shvit_pl.sweep.plan.definition import Definition
from shvit_pl.sweep.plan.objectives import Direction
from shvit_pl.sweep.plan.points import Point
from shvit_pl.sweep.study.board import Board
from shvit_pl.sweep.study.trials import ERROR, OWNER, command_of, telling


@dataclass(frozen=True)
class Running:
    """A run that goes on: of which point, by which worker, since how many seconds, and by which command."""

    point: Point
    owner: Mapping[str, Any]
    seconds: float
    command: str = ""


@dataclass(frozen=True)
class Ended:
    """A run that has ended: its values, or its error; whether a pruner ended it."""

    point: Point
    values: tuple[float, ...]
    error: str | None
    seconds: float
    command: str = ""
    pruned: bool = False


@dataclass(frozen=True)
class Status:
    """How far a sweep is.

    Attributes:
        total: Points in all.
        ended: Those that are done, in their order.
        failed: Those that are given up.
        running: Those that run, on all machines.
        seconds_left: Estimated from the runs so far; None before the first one ends.
        objectives: What values are of.
    """

    total: int
    ended: tuple[Ended, ...]
    failed: tuple[Ended, ...]
    running: tuple[Running, ...]
    seconds_left: float | None
    objectives: Mapping[str, Direction]

    @property
    def left(self) -> int:
        """Points that are neither done nor given up."""
        return self.total - len(self.ended) - len(self.failed)

    @property
    def waiting(self) -> int:
        """Points that nobody has begun."""
        return self.left - len(self.running)

    @property
    def best(self) -> Ended | None:
        """The best run so far in the first objective."""
        pick = max if next(iter(self.objectives.values())) == "max" else min
        return pick(self.ended, key=lambda run: run.values[0], default=None)


def status_of(board: Board, definition: Definition, retries: int) -> Status:
    """Count the points of a sweep."""
    keyed = board.by_key()
    ended: list[Ended] = []
    failed: list[Ended] = []
    running: list[Running] = []
    waiting: list[Point] = []
    for key, point in definition.points.items():
        trials = keyed.get(key, [])
        match telling(trials):
            case FrozenTrial(state=TrialState.COMPLETE | TrialState.PRUNED) as trial:
                ended.append(_ended(point, trial))
            case FrozenTrial(state=TrialState.RUNNING) as trial:
                running.append(Running(point, trial.user_attrs.get(OWNER, {}), _seconds(trial), command_of(trial)))
            case FrozenTrial(state=TrialState.FAIL) as trial if board.has_failed(trials, retries):
                failed.append(_ended(point, trial))
            case _:
                waiting.append(point)
    left = _time_left(ended, running, waiting)
    total = len(definition.points)
    return Status(total, tuple(ended), tuple(failed), tuple(running), left, definition.objectives)


def duration(seconds: float) -> str:
    """Seconds as hours:minutes:seconds."""
    return str(timedelta(seconds=round(seconds)))


def _ended(point: Point, trial: FrozenTrial) -> Ended:
    error, pruned = trial.user_attrs.get(ERROR), trial.state == TrialState.PRUNED
    return Ended(point, tuple(trial.values or ()), error, _seconds(trial), command_of(trial), pruned)


def _seconds(trial: FrozenTrial) -> float:
    if trial.datetime_start is None:
        return 0.0
    return ((trial.datetime_complete or datetime.now()) - trial.datetime_start) / timedelta(seconds=1)


def _time_left(ended: Sequence[Ended], running: Sequence[Running], waiting: Sequence[Point]) -> float | None:
    """The runs to come take as long as those of their cell did, or of all cells; shared out over those that run now."""
    if not ended:
        return None
    taken: dict[str, list[float]] = {}
    for run in ended:
        taken.setdefault(run.point.cell, []).append(run.seconds)
    usual = mean(run.seconds for run in ended)
    expected = {cell: mean(seconds) for cell, seconds in taken.items()}
    rest = sum(expected.get(point.cell, usual) for point in waiting)
    rest += sum(max(0.0, expected.get(run.point.cell, usual) - run.seconds) for run in running)
    return rest / max(1, len(running))
