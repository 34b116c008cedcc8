"""The plane with its Pareto front, and the conditions."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from shvit_pl.sweep.report.findings import best_first, findings_of, pareto_front
from tests.sweep.report.sweeps import cube, nothing_done, search, with_speed, with_summaries


def assert_across(results, key, drawn=8):
    plane = findings_of(results).plane
    assert plane.across.key == key
    assert "batch" in plane.conditions
    assert (len(plane.rows), plane.left_out) == (drawn, "")


def test_throughput_is_what_all_cells_have_compiled_or_eager_inference_or_training():
    results, some = with_speed(cube()), with_speed(search())
    assert_across(results, "inference_compiled")
    results.speed["cells"][results.cells[0].name]["compiled"] = None
    assert_across(results, "inference_eager")
    assert_across(with_speed(cube(), compiled=False), "inference_eager")
    assert_across(cube(), "images_per_second")
    for cell in some.cells[8:]:
        del some.speed["cells"][cell.name]
    assert_across(some, "images_per_second", drawn=16)


def test_cells_that_cannot_be_drawn_are_counted():
    first, *rest = cube().cells
    (without,) = with_summaries(replace(cube(), cells=(first,)), images_per_second=None).cells
    plane = findings_of(replace(cube(), cells=(without, *rest))).plane
    assert len(plane.rows) == 7
    assert plane.left_out.startswith("7 of 8 cells with a run that is done; the others lack top-1 or training images/s")


def test_the_front_is_of_the_means_in_order():
    plane = findings_of(with_speed(cube(effects={"patch_size": -0.02}, noise=0.0001))).plane
    across, up = ([row.values[one.key].mean for row in plane.front] for one in (plane.across, plane.up))
    assert len(across) > 1
    assert across == sorted(across)
    assert up == sorted(up, reverse=True)


@pytest.mark.parametrize("directions", product(("min", "max"), repeat=2))
def test_the_front_holds_what_no_other_point_beats(directions):
    points = np.random.default_rng(0).integers(0, 6, size=(30, 2))  # with equals, which share the front
    better = points * [1 if direction == "max" else -1 for direction in directions]
    beaten = [any((b >= a).all() and (b > a).any() for b in better) for a in better]
    assert pareto_front(points, directions).tolist() == [not one for one in beaten]
    assert pareto_front([], directions).tolist() == []


@pytest.mark.parametrize(
    ("points", "directions", "most", "order"),
    [
        ([(1, 9), (2, 7), (2, 8), (1, 1), (3, 2)], ("max", "max"), 9, [4, 2, 0, 1, 3]),
        ([(1, 9), (2, 7), (2, 8), (1, 1), (3, 2)], ("max", "max"), 2, [4, 2]),
        ([(1,), (9,), (4,)], ("max",), 3, [1, 2, 0]),
        ([(1,), (9,), (4,)], ("min",), 3, [0, 2, 1]),
        ([], ("max",), 2, []),
    ],
)
def test_the_best_come_front_after_front(points, directions, most, order):
    assert best_first(points, directions, most) == order


def conditions(**values):
    """The conditions of a cube with these values in every summary."""
    return findings_of(with_summaries(cube(), **values)).conditions


def test_images_that_limited_batches_left_out_are_not_claimed():
    whole = conditions(epochs_trained=10, steps_trained=220, global_batch=64)
    assert whole["training"].startswith("10 epochs, 220 steps, 14080 images seen, 1 x cpu (2 threads), batch 64")
    limited = conditions(epochs_trained=1, steps_trained=2, global_batch=16, device="1 x cpu (1 thread)")
    assert limited["training"] == (
        "1 epoch, 2 steps, 32 images seen, fewer than there are, 1 x cpu (1 thread), batch 16, 32-true"
    )


def test_a_setting_reads_alike_in_the_list_and_on_the_axis():
    for results, key in ((with_speed(cube()), "inference speed"), (cube(), "training")):
        found = findings_of(results)
        assert found.plane.conditions
        assert found.plane.conditions in found.conditions[key]


def test_before_a_run_ends_there_are_no_conditions():
    assert "the number of runs that shared the machine is unknown" in conditions()["training images/s"]
    assert findings_of(nothing_done()).conditions == {}
