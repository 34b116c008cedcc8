"""The plane with its Pareto front, and the conditions."""

from dataclasses import replace

import numpy as np
import pytest

from shvit_pl.sweep.report.findings import best_first, findings_of, pareto_front
from tests.sweep.report.sweeps import cube, nothing_done, search, with_speed, with_summaries


@pytest.mark.parametrize(
    ("results", "key"),
    [
        (with_speed(cube()), "inference_compiled"),
        (with_speed(cube(), compiled=False), "inference_eager"),
        (cube(), "images_per_second"),
    ],
)
def test_throughput_is_compiled_or_eager_inference_or_training(results, key):
    across = findings_of(results).plane.across
    assert across.quantity.key == key
    assert "batch" in across.conditions


def test_cells_that_were_not_compiled_are_never_compared_with_those_that_were():
    results = with_speed(cube())
    results.speed["cells"][results.cells[0].name]["compiled"] = None
    assert findings_of(results).plane.across.quantity.key == "inference_eager"


def test_where_only_the_best_trials_have_inference_speed_all_are_drawn_over_training_images():
    results = with_speed(search())
    for cell in results.cells[8:]:
        del results.speed["cells"][cell.name]
    plane = findings_of(results).plane
    assert plane.across.quantity.key == "images_per_second"
    assert len(plane.dots) == 16
    assert plane.left_out == ""


def test_cells_that_cannot_be_drawn_are_counted():
    first, *rest = cube().cells
    (without,) = with_summaries(replace(cube(), cells=(first,)), images_per_second=None).cells
    plane = findings_of(replace(cube(), cells=(without, *rest))).plane
    assert len(plane.dots) == 7
    assert plane.left_out.startswith("7 of 8 cells with a run that is done; the others lack top-1 or training images/s")


def test_the_front_is_of_the_means_in_order():
    results = with_speed(cube(effects={"patch_size": -0.02}, noise=0.0001))
    front = findings_of(results).plane.front
    assert [one.x.mean for one in front] == sorted(one.x.mean for one in front)
    assert [one.y.mean for one in front] == sorted((one.y.mean for one in front), reverse=True)


def test_the_front_holds_what_nothing_beats():
    points = [(1, 9), (2, 8), (2, 7), (3, 8.5), (4, 1)]
    assert pareto_front(points, ("max", "max")).tolist() == [True, False, False, True, True]


def test_each_axis_has_its_direction():
    assert pareto_front([(1, 9), (2, 9), (2, 10)], ("min", "max")).tolist() == [True, False, True]


def test_equals_share_the_front():
    assert pareto_front([(1, 1), (1, 1)], ("max", "max")).all()


def test_nothing_has_no_front():
    assert pareto_front([], ("max", "max")).tolist() == []


@pytest.mark.parametrize("seed", range(5))
def test_it_agrees_with_the_definition(seed):
    points = np.random.default_rng(seed).integers(0, 6, size=(30, 2))
    beaten = [any((b >= a).all() and (b > a).any() for b in points) for a in points]
    assert pareto_front(points, ("max", "max")).tolist() == [not one for one in beaten]


def test_the_best_come_front_after_front():
    points = [(1, 9), (2, 7), (2, 8), (1, 1), (3, 2)]
    assert best_first(points, ("max", "max"), most=9) == [4, 2, 0, 1, 3]
    assert best_first(points, ("max", "max"), most=2) == [4, 2]
    assert best_first([], ("max",), most=2) == []


@pytest.mark.parametrize(("direction", "order"), [("max", [1, 2, 0]), ("min", [0, 2, 1])])
def test_with_one_direction_the_best_is_first(direction, order):
    assert best_first([(1,), (9,), (4,)], (direction,), most=3) == order


def conditions(results, **values):
    """The conditions of a sweep with these values in every summary."""
    return findings_of(with_summaries(results, **values)).conditions


def test_a_whole_training_says_what_was_seen():
    whole = conditions(cube(), epochs_trained=10, steps_trained=220, global_batch=64)
    assert whole["training"].startswith("10 epochs, 220 steps, 14080 images seen, 1 x cpu (2 threads), batch 64")


def test_images_that_limited_batches_left_out_are_not_claimed():
    limited = conditions(cube(), epochs_trained=1, steps_trained=2, global_batch=16, device="1 x cpu (1 thread)")
    assert limited["training"] == (
        "1 epoch, 2 steps, 32 images seen, fewer than there are, 1 x cpu (1 thread), batch 16, 32-true"
    )


def test_nobody_knows_how_many_runs_shared_the_machine():
    assert "the number of runs that shared the machine is unknown" in conditions(cube())["training images/s"]


def test_a_setting_is_worded_alike_in_the_list_and_on_the_axis():
    for results, key in ((with_speed(cube()), "inference speed"), (cube(), "training")):
        found = findings_of(results)
        assert found.plane.across.conditions
        assert found.plane.across.conditions in found.conditions[key]


def test_before_a_run_ends_there_are_no_conditions():
    assert findings_of(nothing_done()).conditions == {}
