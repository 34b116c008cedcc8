"""The cells whose inference speed is measured at the end."""

import pytest

from shvit_pl.sweep.finish import summaries_to_measure
from tests.sweep.report.sweeps import cube, search


def test_all_cells_of_a_grid_are_measured():
    assert list(summaries_to_measure(cube())) == [cell.name for cell in cube().cells]


@pytest.mark.parametrize("unknown", [None, float("nan")])
@pytest.mark.parametrize("direction", ["min", "max"])
def test_a_trial_without_a_value_is_not_the_best(unknown, direction):
    results = search(objectives={"val/loss": direction})
    results.cells[0].runs[0].summary["metrics"]["val/loss"] = unknown
    measured = summaries_to_measure(results)
    losses = [cell.runs[0].summary["metrics"]["val/loss"] for cell in results.cells[1:] if cell.done]
    assert results.cells[0].name not in measured
    best = sorted(losses, reverse=direction == "max")[:8]
    assert [summary["metrics"]["val/loss"] for summary in measured.values()] == best


def test_of_two_objectives_what_nothing_beats_is_measured_though_it_is_not_the_most_accurate():
    results = search(objectives={"val/acc1": "max", "images_per_second": "max"})
    quick = results.cells[0].runs[0].summary
    quick["images_per_second"], quick["metrics"]["val/acc1"] = 1e6, 0.1
    assert results.cells[0].name in summaries_to_measure(results)
