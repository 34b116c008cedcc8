import statistics
from dataclasses import replace

import pytest

from shvit_pl.sweep.report.table import Spread, make_table, quantity
from tests.sweep.report.sweeps import cube, listed, unfinished, with_speed, with_summaries


def test_a_row_has_choices_by_their_last_component_and_the_mean_over_seeds():
    row = make_table(cube()).rows[6]
    accuracies = [run.summary["metrics"]["val/acc1"] for run in row.cell.runs]
    mean, sd = statistics.mean(accuracies), statistics.stdev(accuracies)
    assert row.levels == {"patch_size": "16", "stages": "4", "stage1": "conv"}
    assert (row.values["val/acc1"].mean, row.values["val/acc1"].sd) == pytest.approx((mean, sd))
    assert row.show(quantity("val/acc1")) == f"{100 * mean:.2f} ± {100 * sd:.2f}"


def test_only_choices_that_vary_are_columns_and_a_lists_row_goes_by_its_name():
    cells = tuple(replace(cell, choices={**cell.choices, "data.path": "digits"}) for cell in cube().cells)
    table = make_table(replace(cube(), cells=cells))
    assert "path" not in table.rows[0].levels
    assert table.constants == {"data.path": "digits"}
    assert [row.label for row in make_table(listed()).rows] == ["1: base", "2: Mixup", "3: averaged"]


def test_failed_and_waiting_runs_do_not_count():
    table = make_table(unfinished())
    row, single = table.rows[1], table.rows[4]
    assert next(column.text[1] for column in table.columns if column.header == "runs done") == "2 of 3, 1 failed"
    accuracies = [run.summary["metrics"]["val/acc1"] for run in row.cell.runs if run.state == "done"]
    assert row.values["val/acc1"].mean == pytest.approx(statistics.mean(accuracies))
    assert single.values["val/acc1"].sd is None
    assert "±" not in single.show(quantity("val/acc1"))


def test_inference_speed_and_the_papers_row_are_the_cells():
    results = with_speed(cube())
    first, *_, row = make_table(results).rows[:5]
    assert row.values["inference_eager"].mean == results.speed["cells"][row.cell.name]["eager"]
    assert row.paper.source == "Table 2: SHViT-S1"
    assert first.paper is None


@pytest.mark.parametrize("missing", [None, float("nan")])
def test_a_quantity_that_no_run_has_is_left_out(missing):
    table = make_table(with_summaries(cube(), peak_memory_mb=missing))
    assert "peak_memory_mb" not in {one.key for one in table.quantities}
    assert "peak_memory_mb" not in table.rows[0].values


def test_any_objective_is_a_column():
    results = replace(cube(), objectives={"val/loss": "min", "wall_seconds": "min"})
    keys = [one.key for one in make_table(results).quantities]
    assert keys[:3] == ["val/acc1", "val/acc1_ema", "val/loss"]
    assert "wall_seconds" in keys


def test_a_spread_that_rounds_to_nothing_is_not_shown_as_zero():
    assert Spread({0: 1091.7, 1: 1092.1, 2: 1092.2}).show(quantity("peak_memory_mb")) == "1092"
    assert Spread({0: 1091.4, 1: 1092.0, 2: 1092.6}).show(quantity("peak_memory_mb")) == "1092 ± 1"
