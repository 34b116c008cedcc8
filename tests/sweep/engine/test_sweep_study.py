"""Points are taken over from workers that are dead or silent, and only from them; Optuna samples a search."""

import time

import optuna
import pytest
from optuna.pruners import MedianPruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import NSGAIISampler, RandomSampler, TPESampler
from optuna.trial import TrialState

from shvit_pl.sweep.engine.storage import open_journal
from shvit_pl.sweep.engine.sweep_study import BEAT, ERROR, KEY, LOST, OWNER, SweepStudy, is_fault
from shvit_pl.sweep.plan.definition import Point
from shvit_pl.sweep.processes import this_process

GRACE = 0.5
SPACE = {
    "lr": {"low": 1e-4, "high": 1e-1, "log": True},
    "depth": {"low": 1, "high": 3},
    "width": {"low": 0.5, "high": 2, "step": 0.5},
    "name": ["a", None, 3],
}
ELSEWHERE = {**this_process(), "machine": "another", "host": "far"}


@pytest.fixture
def study(tmp_path):
    """A study with one point, which waits."""
    study = SweepStudy(open_journal(tmp_path), "numbers", ["max"])
    study.enqueue_missing([Point("a", "a", {}, 0)], retries=0)
    return study


def look(study, seconds):
    """Look for dead workers every now and then, as a driver does; until one is found, at most."""
    until = time.monotonic() + seconds
    while time.monotonic() < until and TrialState.FAIL not in states(study):
        study.end_abandoned(GRACE)
        time.sleep(0.02)


def states(study):
    return [trial.state for trial in study.trials()]


def test_a_worker_elsewhere_is_taken_for_dead_after_the_grace_time_and_not_before(study):
    study.claim(ELSEWHERE)
    look(study, 0.8 * GRACE)
    assert states(study) == [TrialState.RUNNING]
    look(study, 20 * GRACE)
    assert states(study) == [TrialState.FAIL]
    lost = study.trials()[0]
    assert lost.user_attrs[LOST]
    assert lost.user_attrs[ERROR] == "the sweep that ran it on far is gone"
    assert not is_fault(lost)
    study.enqueue_missing([Point("a", "a", {}, 0)], retries=0)
    assert study.claim(this_process()).number == 1


def test_a_worker_elsewhere_that_is_heard_keeps_its_point(study):
    trial = study.claim(ELSEWHERE)
    for beat in range(5):
        study.set_attrs(trial.number, {BEAT: beat})
        look(study, 0.6 * GRACE)
    assert states(study) == [TrialState.RUNNING]


def test_a_point_that_was_begun_keeps_its_place(tmp_path):
    study = SweepStudy(open_journal(tmp_path), "numbers", ["max"])
    points = [Point(key, key, {}, 0) for key in "abc"]
    study.enqueue_missing(points, retries=0)
    lost = study.claim(this_process())
    study.end(lost.number, TrialState.FAIL, {LOST: True})
    study.enqueue_missing(points, retries=0)
    assert [study.claim(this_process()).user_attrs[KEY] for _ in points] == ["a", "b", "c"]


def test_a_live_worker_here_keeps_its_point_and_one_that_died_before_it_gave_its_name_does_not(study):
    study.claim(this_process())
    look(study, 2 * GRACE)
    assert states(study) == [TrialState.RUNNING]
    study.storage.set_trial_user_attr(study._id(0), OWNER, None)
    look(study, 20 * GRACE)
    assert states(study) == [TrialState.FAIL]


def test_silence_counts_only_while_somebody_listens(study):
    trial = study.claim(ELSEWHERE)
    study.set_attrs(trial.number, {BEAT: 1})
    study.end_abandoned(GRACE)
    time.sleep(2 * GRACE)  # the driver was stopped, or the database away: for the workers too
    study.end_abandoned(GRACE)
    study.set_attrs(trial.number, {BEAT: 2})
    study.end_abandoned(GRACE)
    assert states(study) == [TrialState.RUNNING]


def test_two_drivers_that_let_the_same_point_wait_have_it_done_once(study):
    study.optuna_study.enqueue_trial({}, user_attrs={"key": "a"})
    assert study.claim(this_process()).number == 0
    assert study.claim(this_process()) is None
    assert [is_fault(trial) for trial in study.trials()] == [False, False]
    assert states(study) == [TrialState.RUNNING, TrialState.FAIL]


def sampled(sampler, seed=0, trials=15, directions=("max",)):
    """A fresh study, and the choices of its trials."""
    study = SweepStudy(optuna.storages.InMemoryStorage(), "numbers", directions)
    choices = []
    for number in range(trials):
        study.enqueue_missing([Point(f"{number}", "", {}, 0)], retries=0)
        study.claim(this_process())
        choices.append(study.suggest(number, {"sampler": sampler, "space": SPACE}, seed + number))
        study.end(number, TrialState.COMPLETE, {}, [choices[-1]["lr"]] * len(directions))
    return study, choices


@pytest.mark.parametrize("sampler", ["tpe", "nsga2", "random"])
def test_samples_are_inside_their_ranges_of_their_kinds_and_the_same_again(sampler):
    _, choices = sampled(sampler)
    for one in choices:
        assert 1e-4 <= one["lr"] <= 1e-1
        assert one["depth"] in (1, 2, 3)
        assert type(one["depth"]) is int
        assert one["width"] in (0.5, 1.0, 1.5, 2.0)
        assert one["name"] in ("a", None, 3)
    assert choices == sampled(sampler)[1] != sampled(sampler, seed=1)[1]


@pytest.mark.parametrize(
    ("sampler", "directions", "optunas"),
    [
        ("", ["max"], TPESampler),
        ("", ["max", "min"], NSGAIISampler),
        ("tpe", ["max", "min"], TPESampler),
        ("random", ["max"], RandomSampler),
    ],
)
def test_the_sampler_is_as_asked_for_or_fits_the_objectives(sampler, directions, optunas):
    study, _ = sampled(sampler, trials=1, directions=directions)
    assert isinstance(study.optuna_study.sampler, optunas)


@pytest.mark.parametrize(
    ("pruner", "optunas"), [("median", MedianPruner), ("halving", SuccessiveHalvingPruner), ("none", NopPruner)]
)
def test_the_pruner_is_optunas(pruner, optunas, study):
    study.claim(this_process())
    assert study.report(0, 0.5, 1, pruner) is False
    assert isinstance(study.optuna_study.pruner, optunas)
    assert study.trials()[0].intermediate_values == {1: 0.5}
