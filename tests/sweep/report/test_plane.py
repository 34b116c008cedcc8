from dataclasses import replace

import pytest

from shvit_pl.sweep.report.findings import findings_of
from tests.sweep.report.sweeps import cube, search, with_speed, with_summaries


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
