"""The study behind a sweep: which points wait, run, are done or failed, on any number of machines."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import optuna
from optuna.exceptions import DuplicatedStudyError, UpdateFinishedTrialError
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from shvit_pl.sweep.plan.definition import Definition, refuse_other
from shvit_pl.sweep.plan.objectives import Direction
from shvit_pl.sweep.plan.points import Point
from shvit_pl.sweep.processes import is_alive
from shvit_pl.sweep.study.storage import patiently
from shvit_pl.sweep.study.trials import BEAT, DEFINITION, DONE, ERROR, KEY, LOST, OWNER, is_fault

_FORGIVEN = "forgiven"  # noted of the study: faults that do not count any more
_LOOKS = 4  # in the grace time at least, before a worker is taken for dead
_LIVE = (TrialState.WAITING, TrialState.RUNNING, *DONE)


class Board:
    """A study, seen as the points of a sweep.

    Args:
        storage: Where it lives.
        name: Of the study.
        directions: Of its objectives, when it has to be made.
    """

    def __init__(self, storage: BaseStorage, name: str, directions: Sequence[Direction] | None = None) -> None:
        self.storage = storage
        if directions is None:
            self.study = optuna.load_study(study_name=name, storage=storage)
        else:
            self.study = _made(storage, name, directions)
        self._study_id = storage.get_study_id_from_name(name)
        self._heard: dict[int, tuple[Any, float]] = {}  # of each running trial: its last beat, seconds of silence since
        self._listened = time.monotonic()

    def definition(self) -> Definition | None:
        """What it is a sweep of; None of a new study."""
        stored = self.study.user_attrs.get(DEFINITION)
        return Definition.from_dict(stored) if stored is not None else None

    def record(self, definition: Definition, where: str) -> int:
        """Keep what defines the sweep; raises `UserError` where the study is of another one.

        Args:
            definition: The sweep.
            where: The flag that says where it is, and its value.

        Returns:
            How many points it has beyond those that were recorded before.
        """
        before = self.definition()
        if before is not None:
            refuse_other(before, definition, where)
        if before is None or before != definition:
            self.study.set_user_attr(DEFINITION, definition.as_dict())
        return len(definition.points) - (len(before.points) if before else 0)

    def trials(self, states: tuple[TrialState, ...] | None = None) -> list[FrozenTrial]:
        """Trials of points, oldest first."""
        trials = self.study.get_trials(deepcopy=False, states=states)
        return [trial for trial in trials if KEY in trial.user_attrs]

    def by_key(self) -> dict[str, list[FrozenTrial]]:
        """The trials of each point, oldest first."""
        keyed: dict[str, list[FrozenTrial]] = {}
        for trial in self.trials():
            keyed.setdefault(trial.user_attrs[KEY], []).append(trial)
        return keyed

    def open(self, number: int) -> optuna.trial.Trial:
        """A running trial, to sample its parameters or report its metric."""
        return optuna.trial.Trial(self.study, self._id(number))

    def carry_over(self, number: int) -> None:
        """Give a trial what earlier ones of its point reported: it goes on from their last checkpoint."""
        key = self.study.trials[number].user_attrs[KEY]
        for earlier in self.by_key()[key]:
            for step, reported in earlier.intermediate_values.items():
                self.storage.set_trial_intermediate_value(self._id(number), step, reported)

    def note(self, number: int, facts: Mapping[str, Any]) -> None:
        """Keep facts of a trial."""
        for name, value in facts.items():
            self.storage.set_trial_user_attr(self._id(number), name, value)

    def claim(self, owner: dict[str, Any]) -> FrozenTrial | None:
        """Take the first point that waits, if there is one; no other worker gets it.

        A point that was begun before keeps its place.
        """
        first = {trial.user_attrs[KEY]: trial.number for trial in reversed(self.trials())}
        for trial in sorted(self.trials((TrialState.WAITING,)), key=lambda trial: first[trial.user_attrs[KEY]]):
            try:
                if not self.storage.set_trial_state_values(self._id(trial.number), TrialState.RUNNING):
                    continue
                # from here on it is ours: a live worker that forgets it would hold it for good
                patiently(partial(self.note, trial.number, {OWNER: owner}))
            except UpdateFinishedTrialError:
                continue
            if not patiently(partial(self._has_twin, trial)):
                return trial
            self.end(trial.number, TrialState.FAIL, {LOST: True, ERROR: "another trial does this point"})
        return None

    def end(
        self, number: int, state: TrialState, facts: Mapping[str, Any], values: Sequence[float] | None = None
    ) -> bool:
        """End a trial, and note facts of it; false where it has ended already, by another process's judgement."""

        def write() -> bool:
            self.note(number, facts)
            return self.storage.set_trial_state_values(self._id(number), state, values)

        try:
            return patiently(write)
        except UpdateFinishedTrialError:
            return False

    def reap(self, grace: float) -> None:
        """End the trials of workers that are dead, or, where that can't be told, silent for `grace` seconds."""
        trials, now = self.trials((TrialState.RUNNING,)), time.monotonic()
        # while we were stopped, or the database was away, nobody could be heard
        listened, self._listened = min(now - self._listened, grace / _LOOKS), now
        for trial in trials:
            owner, silence = trial.user_attrs.get(OWNER), self._silence(trial, listened)
            alive = None if owner is None else is_alive(owner)
            if alive is False or (alive is None and silence > grace):
                host = owner["host"] if owner else "unknown"
                self.end(trial.number, TrialState.FAIL, {LOST: True, ERROR: f"its worker on {host} is gone"})

    def _silence(self, trial: FrozenTrial, listened: float) -> float:
        """Seconds of listening since a trial's last beat."""
        beat = trial.user_attrs.get(BEAT)
        before, silence = self._heard.get(trial.number, (beat, -listened))
        silence = silence + listened if beat == before else 0.0
        self._heard[trial.number] = beat, silence
        return silence

    def enqueue_missing(self, points: Iterable[Point], retries: int) -> None:
        """Let every point wait that is neither done, nor on its way, nor has failed too often."""
        keyed = self.by_key()
        for point in points:
            trials = keyed.get(point.key, [])
            if any(trial.state in _LIVE for trial in trials) or self.has_failed(trials, retries):
                continue
            params = next((trial.params for trial in reversed(trials) if trial.params), {})
            self.study.enqueue_trial(params, user_attrs={KEY: point.key})

    def has_failed(self, trials: Sequence[FrozenTrial], retries: int) -> bool:
        """Whether a point is given up."""
        forgiven = self.study.user_attrs.get(_FORGIVEN, [])
        return sum(is_fault(trial) and trial.number not in forgiven for trial in trials) > retries

    def forgive(self) -> int:
        """Give the points that failed another chance, unless somebody else is at work; returns how many there are."""
        keyed = self.by_key()
        if self.trials((TrialState.RUNNING,)):
            return 0
        faults = [trial.number for trials in keyed.values() for trial in trials if is_fault(trial)]
        self.study.set_user_attr(_FORGIVEN, faults)
        open_ = [trials for trials in keyed.values() if not any(trial.state in _LIVE for trial in trials)]
        return sum(any(map(is_fault, trials)) for trials in open_)

    def _has_twin(self, trial: FrozenTrial) -> bool:
        """Whether the same point is done, or another trial of it was there first: two drivers may enqueue at once."""
        twins = [twin for twin in self.by_key()[trial.user_attrs[KEY]] if twin.number != trial.number]
        done = any(twin.state in DONE for twin in twins)
        return done or any(twin.state in _LIVE and twin.number < trial.number for twin in twins)

    def _id(self, number: int) -> int:
        return self.storage.get_trial_id_from_study_id_trial_number(self._study_id, number)


def _made(storage: BaseStorage, name: str, directions: Sequence[Direction]) -> optuna.Study:
    """The study, made where there is none yet; another process may make it at the same time."""
    wanted = [StudyDirection.MINIMIZE if direction == "min" else StudyDirection.MAXIMIZE for direction in directions]
    try:
        return optuna.create_study(storage=storage, study_name=name, directions=wanted)
    except DuplicatedStudyError:
        return optuna.load_study(study_name=name, storage=storage)
