"""Whose inference speed is measured at the end."""

from dataclasses import replace

import pytest

from shvit_pl.sweep.finish import _to_measure
from tests.sweep.report.sweeps import cube, search


def with_metrics(results, **values):
    """The sweep with these values in the summaries of its first trial."""
    first, *rest = results.cells
    run = first.runs[0]
    summary = {**run.summary, **values, "metrics": {**run.summary["metrics"], **values.get("metrics", {})}}
    return replace(results, cells=(replace(first, runs=(replace(run, summary=summary),)), *rest))


def test_all_cells_of_a_grid_are_measured():
    assert list(_to_measure(cube())) == [cell.name for cell in cube().cells]


@pytest.mark.parametrize("unknown", [None, float("nan")])
@pytest.mark.parametrize("direction", ["min", "max"])
def test_a_trial_without_a_value_is_not_the_best(unknown, direction):
    results = with_metrics(search(objectives={"val/loss": direction}), metrics={"val/loss": unknown})
    measured = _to_measure(results)
    losses = sorted(
        (cell.runs[0].summary["metrics"]["val/loss"] for cell in results.cells[1:] if cell.done),
        reverse=direction == "max",
    )
    assert results.cells[0].name not in measured
    assert [summary["metrics"]["val/loss"] for summary in measured.values()] == losses[:8]


def test_of_two_objectives_what_nothing_beats_is_measured_though_it_is_not_the_most_accurate():
    objectives = {"val/acc1": "max", "images_per_second": "max"}
    quick = with_metrics(search(objectives=objectives), images_per_second=1e6, metrics={"val/acc1": 0.1})
    assert quick.cells[0].name in _to_measure(quick)
