"""Points are taken over from workers that are dead or silent, and only from them; Optuna samples a search."""

from types import SimpleNamespace

import optuna
import pytest
from optuna.pruners import MedianPruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import NSGAIISampler, RandomSampler, TPESampler
from optuna.trial import TrialState

from shvit_pl.sweep.definition import Point
from shvit_pl.sweep.engine import sweep_study
from shvit_pl.sweep.engine.sweep_study import BEAT, ERROR, KEY, LOST, OWNER, SweepStudy, is_fault
from shvit_pl.sweep.processes import this_process

GRACE, LOOK = 16, 1  # seconds of a clock that stands still by itself
SPACE = {
    "lr": {"low": 1e-4, "high": 1e-1, "log": True},
    "depth": {"low": 1, "high": 3},
    "width": {"low": 0.5, "high": 2, "step": 0.5},
    "name": ["a", None, 3],
}
ELSEWHERE = {**this_process(), "machine": "another", "host": "far"}
RUNNING, FAIL = TrialState.RUNNING, TrialState.FAIL


def new_study(*keys, directions=("max",)):
    """A study with points that wait."""
    study = SweepStudy(optuna.storages.InMemoryStorage(), "numbers", directions)
    study.enqueue_missing([Point(key, key, {}, 0) for key in keys], retries=0)
    return study


@pytest.fixture
def clock(monkeypatch):
    """The time that passes for the study."""
    clock = SimpleNamespace(now=0, monotonic=lambda: clock.now)
    monkeypatch.setattr(sweep_study, "time", clock)
    return clock


@pytest.fixture
def study(clock):
    return new_study("a")


def states_after(study, clock, seconds):
    """The trials' states after a driver has looked for dead workers again and again."""
    for _ in range(0, seconds, LOOK):
        clock.now += LOOK
        study.end_abandoned(GRACE)
    return [trial.state for trial in study.trials()]


def test_a_worker_elsewhere_is_taken_for_dead_after_the_grace_time_and_not_before(study, clock):
    study.claim(ELSEWHERE)
    assert states_after(study, clock, GRACE) == [RUNNING]
    assert states_after(study, clock, 2 * LOOK) == [FAIL]
    lost = study.trials()[0]
    assert lost.user_attrs[LOST]
    assert lost.user_attrs[ERROR] == "the sweep process on far is lost"
    assert not is_fault(lost)
    study.enqueue_missing([Point("a", "a", {}, 0)], retries=0)
    assert study.claim(this_process()).number == 1


def test_a_worker_elsewhere_that_is_heard_keeps_its_point(study, clock):
    trial = study.claim(ELSEWHERE)
    for beat in range(5):
        study.set_attrs(trial.number, {BEAT: beat})
        assert states_after(study, clock, GRACE - LOOK) == [RUNNING]


def test_a_live_worker_here_keeps_its_point_and_one_that_died_before_it_gave_its_name_does_not(study, clock):
    study.claim(this_process())
    assert states_after(study, clock, 2 * GRACE) == [RUNNING]
    study.set_attrs(0, {OWNER: None})
    assert states_after(study, clock, 2 * GRACE) == [FAIL]


def test_silence_counts_only_while_somebody_listens(study, clock):
    trial = study.claim(ELSEWHERE)
    study.set_attrs(trial.number, {BEAT: 1})
    study.end_abandoned(GRACE)
    clock.now += 2 * GRACE  # the driver was stopped, or the database away: for the workers too
    assert states_after(study, clock, LOOK) == [RUNNING]
    study.set_attrs(trial.number, {BEAT: 2})
    assert states_after(study, clock, LOOK) == [RUNNING]


def test_a_point_that_was_begun_keeps_its_place():
    study = new_study(*"abc")
    lost = study.claim(this_process())
    study.end(lost.number, FAIL, {LOST: True})
    study.enqueue_missing([Point("a", "a", {}, 0)], retries=0)
    assert [study.claim(this_process()).user_attrs[KEY] for _ in "abc"] == ["a", "b", "c"]


def test_two_drivers_that_let_the_same_point_wait_have_it_done_once(study):
    study.optuna_study.enqueue_trial({}, user_attrs={"key": "a"})
    assert study.claim(this_process()).number == 0
    assert study.claim(this_process()) is None
    assert [(trial.state, is_fault(trial)) for trial in study.trials()] == [(RUNNING, False), (FAIL, False)]


def sampled(sampler, seed=0, trials=15, directions=("max",)):
    """A fresh study, and the choices of its trials."""
    study, choices = new_study(*map(str, range(trials)), directions=directions), []
    for number in range(trials):
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


def test_sampler_and_pruner_are_optunas_as_asked_for_and_the_sampler_fits_the_objectives(study):
    both, samplers = ["max", "min"], {"tpe": TPESampler, "nsga2": NSGAIISampler, "random": RandomSampler}
    cases = [("", ["max"], "tpe"), ("", both, "nsga2"), ("tpe", both, "tpe"), ("random", both, "random")]
    for asked, directions, name in cases:
        found, _ = sampled(asked, trials=1, directions=directions)
        assert isinstance(found.optuna_study.sampler, samplers[name])
    study.claim(this_process())
    pruners = {"median": MedianPruner, "halving": SuccessiveHalvingPruner, "none": NopPruner}
    for epoch, (pruner, optunas) in enumerate(pruners.items(), start=1):
        assert study.report(0, 0.5, epoch, pruner) is False
        assert isinstance(study.optuna_study.pruner, optunas)
    assert study.trials()[0].intermediate_values == {1: 0.5, 2: 0.5, 3: 0.5}
