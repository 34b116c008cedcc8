"""The Optuna study behind a sweep, in a journal in its folder: which points wait, run, are done or failed.

One driver at a time writes it, which holds the folder; a report only reads.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
from optuna.distributions import CategoricalDistribution, IntDistribution
from optuna.pruners import BasePruner, MedianPruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import BaseSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from shvit_pl.sweep.definition import Definition, Direction, Point
from shvit_pl.sweep.space import Distribution, PointKey, count_points, distribution, draw_untried, point_key

JOURNAL = "study.journal"
STUDY = "sweep"  # its name in the journal

# attributes of the study
_IGNORED = "ignored"  # numbers of failed trials that do not count any more
SPEED = "speed"  # inference speed of the cells

# attributes of a trial
KEY = "key"  # the point's key
PLACED = "placed"  # what the engine calls its run, such as a job's number
SUMMARY = "summary"
CURVES = "curves"
RUN = "run"  # folder, relative to the sweep's
COMMAND = "command"
ERROR = "error"
LOST = "lost"  # its driver or its computer died or was stopped: no failure of the run itself
REPEATED = "repeated"  # the sampler chose a point that another trial has; the point's next trial gets an untried one

DONE = (TrialState.COMPLETE, TrialState.PRUNED)
_LIVE = (TrialState.WAITING, TrialState.RUNNING, *DONE)
_DIRECTIONS = {"min": StudyDirection.MINIMIZE, "max": StudyDirection.MAXIMIZE}
SAMPLERS: dict[str, Callable[..., BaseSampler]] = {
    "tpe": partial(TPESampler, constant_liar=True),  # parallel trials count as bad until their values are known
    "nsga2": NSGAIISampler,
    "random": RandomSampler,
}
PRUNERS: dict[str, type[BasePruner]] = {
    "none": NopPruner, "median": MedianPruner, "halving": SuccessiveHalvingPruner,
}  # fmt: skip


def open_journal(folder: Path) -> JournalStorage:
    """Open the journal of a sweep folder, and create it where there is none."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    # No lock, as one process writes: Optuna's would stay for half a minute when that dies, and one of threading forever
    # when Ctrl-C comes just after it is acquired.
    lock = SimpleNamespace(acquire=lambda: True, release=lambda: None)
    return JournalStorage(JournalFileBackend(str(folder / JOURNAL), lock_obj=lock))  # type: ignore[arg-type]


def open_study(folder: Path, definition: Definition) -> "SweepStudy":
    """Open the study of a sweep folder to write to it, and create it where there is none."""
    if (folder / JOURNAL).is_file():
        with (folder / JOURNAL).open("r+b") as file:  # a driver may have been killed in the middle of a line
            file.truncate(file.read().rfind(b"\n") + 1)
    return SweepStudy(open_journal(folder), list(definition.objectives.values()))


class SweepStudy:
    """A study, seen as the points of a sweep; with the directions of its objectives, it is created if it is missing."""

    def __init__(self, storage: BaseStorage, directions: Sequence[Direction] | None = None) -> None:
        self.storage = storage
        if directions is None:
            self.optuna_study = optuna.load_study(study_name=STUDY, storage=storage)
        else:
            ways = [_DIRECTIONS[direction] for direction in directions]
            self.optuna_study = optuna.create_study(
                storage=storage, study_name=STUDY, directions=ways, load_if_exists=True
            )
        self._study_id = storage.get_study_id_from_name(STUDY)

    def trials(self, states: tuple[TrialState, ...] | None = None) -> list[FrozenTrial]:
        """Return the trials of points, oldest first."""
        trials = self.optuna_study.get_trials(deepcopy=False, states=states)
        return [trial for trial in trials if KEY in trial.user_attrs]

    def trials_by_key(self) -> dict[str, list[FrozenTrial]]:
        """Return the trials of each point, oldest first."""
        by_key: dict[str, list[FrozenTrial]] = {}
        for trial in self.trials():
            by_key.setdefault(trial.user_attrs[KEY], []).append(trial)
        return by_key

    def suggest(self, number: int, search: Mapping[str, Any], seed: int) -> dict[str, Any] | None:
        """Let the sampler choose a running trial's flags; one that was chosen before keeps them.

        Returns None where another trial has the same point of a countable space. This trial has then ended, and the
        next one for its place in the sweep draws a point that was not tried.
        """
        sampler = search["sampler"] or ("tpe" if len(self.optuna_study.directions) == 1 else "nsga2")
        self.optuna_study.sampler = SAMPLERS[sampler](seed=seed)
        trial, space = self._trial(number), search["space"]
        key = trial.user_attrs[KEY]
        own = self.trials_by_key()[key]
        repeats = sum(REPEATED in each.user_attrs for each in own)
        if repeats and not trial.params:
            point = draw_untried(space, self._points_of_others(key, space), f"{seed} {repeats}")
            for flag, values in space.items():
                choices = distribution(values)
                self.storage.set_trial_param(self._id(number), flag, choices.to_internal_repr(point[flag]), choices)
        else:
            point = {flag: _suggest(trial, flag, distribution(values)) for flag, values in space.items()}
        if count_points(space) is None or any(COMMAND in each.user_attrs for each in own):
            return point
        if point_key(space, point) in self._points_of_others(key, space):
            self.end(number, TrialState.FAIL, {LOST: True, REPEATED: True, ERROR: "another trial has the same point"})
            return None
        return point

    def _points_of_others(self, key: str, space: Mapping[str, Any]) -> set[PointKey]:
        """Return the points that other places of the sweep have, also those that wait, run or were given up."""
        last = {other: trial for other, trials in self.trials_by_key().items() for trial in trials if trial.params}
        return {
            point_key(space, trial.params)
            for other, trial in last.items()
            if other != key and REPEATED not in trial.user_attrs and trial.params.keys() == space.keys()
        }

    def report(self, number: int, value: float, epoch: int, pruner: str) -> bool:
        """Report a running trial's metric after an epoch; returns whether the pruner gives the trial up."""
        self.optuna_study.pruner = PRUNERS[pruner]()
        trial = self._trial(number)
        trial.report(value, epoch)
        return trial.should_prune()

    def set_attrs(self, number: int, attrs: Mapping[str, Any]) -> None:
        """Set attributes of a trial."""
        for name, value in attrs.items():
            self.storage.set_trial_user_attr(self._id(number), name, value)

    def waiting(self) -> list[FrozenTrial]:
        """Return the trials that wait, the next one first; a point that was begun before keeps its place."""
        first = {trial.user_attrs[KEY]: trial.number for trial in reversed(self.trials())}
        return sorted(self.trials((TrialState.WAITING,)), key=lambda trial: first[trial.user_attrs[KEY]])

    def begin(self, number: int) -> None:
        """Begin a trial that waits."""
        self.storage.set_trial_state_values(self._id(number), TrialState.RUNNING)

    def end(
        self, number: int, state: TrialState, attrs: Mapping[str, Any], values: Sequence[float] | None = None
    ) -> None:
        """End a trial, and set attributes of it."""
        self.set_attrs(number, attrs)
        self.storage.set_trial_state_values(self._id(number), state, values)

    def enqueue_missing(self, points: Iterable[Point], retries: int) -> None:
        """Enqueue every point that is neither done, nor waits or runs, nor has failed too often.

        A trial has the choices and reports of the one before, whose last checkpoint its run goes on from.
        """
        by_key = self.trials_by_key()
        for point in points:
            trials = by_key.get(point.key, [])
            if any(trial.state in _LIVE for trial in trials) or self.has_failed(trials, retries):
                continue
            last = next((trial for trial in reversed(trials) if trial.params), None)
            begun: dict[str, Any] = {}
            if last is not None and REPEATED not in last.user_attrs:
                begun = {"params": last.params, "distributions": last.distributions}
                begun["intermediate_values"] = last.intermediate_values
            trial = optuna.create_trial(state=TrialState.WAITING, user_attrs={KEY: point.key}, **begun)
            self.optuna_study.add_trial(trial)

    def has_failed(self, trials: Sequence[FrozenTrial], retries: int) -> bool:
        """Return whether a point is given up."""
        ignored = self.storage.get_study_user_attrs(self._study_id).get(_IGNORED, [])  # Optuna's study copies all
        return sum(is_fault(trial) and trial.number not in ignored for trial in trials) > retries

    def reset_faults(self) -> int:
        """Let failed points be tried again; returns the number of these points."""
        by_key = self.trials_by_key()
        faults = [trial.number for trials in by_key.values() for trial in trials if is_fault(trial)]
        self.optuna_study.set_user_attr(_IGNORED, faults)
        ended = [trials for trials in by_key.values() if not any(trial.state in _LIVE for trial in trials)]
        return sum(any(map(is_fault, trials)) for trials in ended)

    def _trial(self, number: int) -> optuna.trial.Trial:
        return optuna.trial.Trial(self.optuna_study, self._id(number))

    def _id(self, number: int) -> int:
        return self.storage.get_trial_id_from_study_id_trial_number(self._study_id, number)


def _suggest(trial: optuna.trial.Trial, flag: str, choices: Distribution) -> Any:
    if isinstance(choices, CategoricalDistribution):
        return trial.suggest_categorical(flag, choices.choices)
    if isinstance(choices, IntDistribution):
        return trial.suggest_int(flag, choices.low, choices.high, step=choices.step, log=choices.log)
    return trial.suggest_float(flag, choices.low, choices.high, step=choices.step, log=choices.log)


def is_fault(trial: FrozenTrial) -> bool:
    """Return whether a trial failed by itself, and not because its driver or its computer died or was stopped."""
    return trial.state == TrialState.FAIL and not trial.user_attrs.get(LOST)
