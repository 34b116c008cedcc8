"""The table, the plane with its Pareto front, and the conditions."""

import statistics
from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from shvit_pl.sweep.report.findings import best_first, findings_of, pareto_front
from shvit_pl.sweep.report.table import Spread, make_table, quantity
from tests.sweep.report.sweeps import cube, nothing_done, search, unfinished, with_speed, with_summaries


def test_a_row_has_choices_by_their_last_component_means_over_seeds_its_speed_and_the_papers_row():
    results = with_speed(cube())
    first, *_, paper, _, row = make_table(results).rows[:7]
    accuracies = [run.summary["metrics"]["val/acc1"] for run in row.cell.runs]
    mean, sd = statistics.mean(accuracies), statistics.stdev(accuracies)
    assert row.levels == {"patch_size": "16", "stages": "4", "stage1": "conv"}
    assert (row.values["val/acc1"].mean, row.values["val/acc1"].sd) == pytest.approx((mean, sd))
    assert row.show(quantity("val/acc1")) == f"{mean:.4f} ± {sd:.4f}"
    assert row.values["inference_eager"].mean == results.speed["cells"][row.cell.name]["eager"]
    assert paper.paper.source == "Table 2: SHViT-S1"
    assert first.paper is None


def test_failed_and_waiting_runs_do_not_count():
    table = make_table(unfinished())
    row, single = table.rows[1], table.rows[4]
    assert next(column.text[1] for column in table.columns if column.header == "runs done") == "2 of 3, 1 failed"
    accuracies = [run.summary["metrics"]["val/acc1"] for run in row.cell.runs if run.state == "done"]
    assert row.values["val/acc1"].mean == pytest.approx(statistics.mean(accuracies))
    assert single.values["val/acc1"].sd is None
    assert "±" not in single.show(quantity("val/acc1"))


@pytest.mark.parametrize("missing", [None, float("nan")])
def test_columns_are_choices_that_vary_all_objectives_and_quantities_that_a_run_has(missing):
    results = with_summaries(cube(), peak_memory_mb=missing)
    cells = tuple(replace(cell, choices={**cell.choices, "data.path": "digits"}) for cell in results.cells)
    table = make_table(replace(results, cells=cells, objectives={"val/loss": "min", "wall_seconds": "min"}))
    assert "path" not in table.rows[0].levels
    assert table.constants == {"data.path": "digits"}
    keys = [one.key for one in table.quantities]
    assert keys[:3] == ["val/acc1", "val/acc1_ema", "val/loss"]
    assert "wall_seconds" in keys
    assert "peak_memory_mb" not in {*keys, *table.rows[0].values}


def test_a_spread_that_rounds_to_nothing_is_not_shown_as_zero():
    assert Spread({(0, 0): 1091.7, (1, 0): 1092.1, (2, 0): 1092.2}).show(quantity("peak_memory_mb")) == "1092"
    assert Spread({(0, 0): 1091.4, (1, 0): 1092.0, (2, 0): 1092.6}).show(quantity("peak_memory_mb")) == "1092 ± 1"


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
    assert plane.left_out.startswith("7 of 8 cells with a finished run; the others lack top-1 or training images/s")


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


def test_conditions_claim_no_images_that_limited_batches_left_out_and_read_as_on_the_axis():
    limits = {"epochs_trained": 1, "steps_trained": 2, "global_batch": 16, "device": "1 x cpu (1 thread)"}
    limited = findings_of(with_summaries(cube(), **limits)).conditions
    assert limited["training"] == (
        "1 epoch, 2 steps, 32 images seen, less than the training set, 1 x cpu (1 thread), batch 16, 32-true"
    )
    whole = findings_of(with_summaries(cube(), epochs_trained=10, steps_trained=220, global_batch=64)).conditions
    assert whole["training"].startswith("10 epochs, 220 steps, 14080 images seen, 1 x cpu (2 threads), batch 64")
    assert "the number of runs that shared the machine is unknown" in whole["training images/s"]
    for results, key in ((with_speed(cube()), "inference speed"), (cube(), "training")):
        found = findings_of(results)
        assert found.plane.conditions
        assert found.plane.conditions in found.conditions[key]
    assert findings_of(nothing_done()).conditions == {}
