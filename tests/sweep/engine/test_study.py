"""Points keep their place, and Optuna samples a search."""

import optuna
import pytest
from optuna.pruners import MedianPruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import NSGAIISampler, RandomSampler, TPESampler
from optuna.trial import TrialState

from shvit_pl.sweep.definition import Point
from shvit_pl.sweep.engine.study import COMMAND, ERROR, KEY, LOST, SweepStudy
from shvit_pl.sweep.space import count_points, distribution, draw_untried, point_key

SPACE = {
    "lr": {"low": 1e-4, "high": 1e-1, "log": True},
    "depth": {"low": 1, "high": 3},
    "width": {"low": 0.5, "high": 2, "step": 0.5},
    "name": ["a", None, 3],
}
FAIL = TrialState.FAIL


def new_study(places, directions=("max",)):
    """A study with points that wait, by their numbers."""
    study = SweepStudy(optuna.storages.InMemoryStorage(), directions)
    study.points = [Point(str(key), "", {}, 0) for key in range(places)]
    study.enqueue_missing(study.points, retries=0)
    return study


def test_a_point_that_was_begun_keeps_its_place():
    study = new_study(3)
    lost = begin_next(study)
    study.end(lost.number, FAIL, {LOST: True})
    study.enqueue_missing(study.points, retries=0)
    assert [begin_next(study).user_attrs[KEY] for _ in "012"] == ["0", "1", "2"]


def sampled(sampler, seed=0, trials=15, directions=("max",)):
    """A fresh study, and the choices of its trials."""
    study, choices = new_study(trials, directions), []
    for number in range(trials):
        begin_next(study)
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


FINITE = {
    "choices": {"name": ["a", "b"], "other": [None, True]},
    "steps of 0.1": {"width": {"low": 0.1, "high": 0.75, "step": 0.1}},
    "a step that misses the end": {"depth": {"low": 1, "high": 6, "step": 2}, "name": ["a", "b"]},
    "powers": {"width": {"low": 1, "high": 8, "log": True}},
    "one point": {"depth": {"low": 3, "high": 4, "step": 5}},
}
SIZES = dict(zip(FINITE, (4, 7, 6, 8, 1), strict=True))


def take(study, search):
    """Claim a trial and let it choose until its point is its own; returns its number and its choices."""
    while True:
        trial = begin_next(study)
        choices = study.suggest(trial.number, search, int(trial.user_attrs[KEY]))
        if choices is not None:
            study.set_attrs(trial.number, {COMMAND: []})
            return trial.number, choices
        study.enqueue_missing(study.points, retries=1)


def begin_next(study):
    """Begin the trial that waits first; None where none does."""
    for trial in study.waiting():
        study.begin(trial.number)
        return trial


@pytest.mark.parametrize("space", FINITE, ids=str)
@pytest.mark.parametrize("sampler", ["tpe", "nsga2", "random"])
def test_a_small_space_is_searched_without_repeating_a_point_until_it_is_exhausted(sampler, space):
    search, size = {"sampler": sampler, "space": FINITE[space]}, SIZES[space]
    assert count_points(FINITE[space]) == size
    study, points = new_study(size), []
    for place in range(size):
        number, choices = take(study, search)
        points.append(tuple(choices.values()))
        study.end(number, [TrialState.COMPLETE, TrialState.PRUNED][place % 2], {}, [float(place)])
    assert len(set(points)) == size
    assert len({point_key(FINITE[space], dict(zip(FINITE[space], point, strict=True))) for point in points}) == size


def test_points_are_equal_however_their_numbers_are_rounded_and_a_continuous_range_has_no_number_of_them():
    space = {"width": {"low": 0.1, "high": 0.9, "step": 0.1}, "name": ["a", None]}
    assert (
        point_key(space, {"width": 0.1 + 0.2, "name": None}) == point_key(space, {"width": 0.3, "name": None}) == (2, 1)
    )
    assert draw_untried(space, {(i, j) for i in range(9) for j in range(2)} - {(2, 1)}, "") == {
        "width": 0.3,
        "name": None,
    }
    assert count_points(space | {"lr": {"low": 1e-3, "high": 1.0, "log": True}}) is None
    assert count_points(SPACE) is None
    assert count_points({"width": {"low": 1.5, "high": 3, "step": 0.25}}) == 7


def test_points_that_run_elsewhere_that_failed_and_that_are_retried_are_not_tried_by_others():
    space = {"depth": {"low": 1, "high": 4}}
    study, search = new_study(4), {"sampler": "tpe", "space": space}
    failed, first = take(study, search)
    study.end(failed, FAIL, {ERROR: "out of memory"})
    study.enqueue_missing(study.points, retries=1)
    _, again = take(study, search)
    assert again == first
    assert sorted(point["depth"] for point in [first, *(take(study, search)[1] for _ in range(3))]) == [1, 2, 3, 4]
    assert begin_next(study) is None


@pytest.mark.parametrize("written", [{}, {"depth": 1}, {"depth": 1, "width": 2}], ids=str)
def test_a_trial_that_was_lost_while_its_point_was_chosen_keeps_it_and_nothing_is_left_out(written):
    space = {"depth": {"low": 1, "high": 2}, "width": {"low": 1, "high": 2}}
    study, search = new_study(4), {"sampler": "tpe", "space": space}
    lost = begin_next(study).number
    for flag, value in written.items():
        study.storage.set_trial_param(study._id(lost), flag, value, distribution(space[flag]))
    study.end(lost, FAIL, {LOST: True})
    study.enqueue_missing(study.points, retries=0)
    points = [take(study, search)[1] for _ in range(4)]
    assert sorted(tuple(point.values()) for point in points) == [(1, 1), (1, 2), (2, 1), (2, 2)]
    assert written.items() <= points[0].items()


def test_a_search_of_a_finite_space_is_the_same_again_by_its_seeds():
    search = {"sampler": "tpe", "space": FINITE["steps of 0.1"]}
    first, second = ([take(study, search)[1] for _ in range(7)] for study in (new_study(7), new_study(7)))
    assert first == second


def test_sampler_and_pruner_are_optunas_as_asked_for_and_the_sampler_fits_the_objectives():
    study = new_study(1)
    both, samplers = ["max", "min"], {"tpe": TPESampler, "nsga2": NSGAIISampler, "random": RandomSampler}
    cases = [("", ["max"], "tpe"), ("", both, "nsga2"), ("tpe", both, "tpe"), ("random", both, "random")]
    for asked, directions, name in cases:
        found, _ = sampled(asked, trials=1, directions=directions)
        assert isinstance(found.optuna_study.sampler, samplers[name])
    begin_next(study)
    pruners = {"median": MedianPruner, "halving": SuccessiveHalvingPruner, "none": NopPruner}
    for epoch, (pruner, optunas) in enumerate(pruners.items(), start=1):
        assert study.report(0, 0.5, epoch, pruner) is False
        assert isinstance(study.optuna_study.pruner, optunas)
    assert study.trials()[0].intermediate_values == {1: 0.5, 2: 0.5, 3: 0.5}
