"""The end of a sweep: which cells' speed is measured, and which run is pushed."""

from dataclasses import replace

import pytest

from shvit_pl.sweep.finish import pick, summaries_to_measure
from tests.sweep.report.sweeps import cube, nothing_done, search


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


def test_all_cells_of_a_grid_are_measured_and_of_two_objectives_what_nothing_beats():
    assert list(summaries_to_measure(cube())) == [cell.name for cell in cube().cells]
    results = search(objectives={"val/acc1": "max", "images_per_second": "max"})
    quick = results.cells[0].runs[0].summary
    quick["images_per_second"], quick["metrics"]["val/acc1"] = 1e6, 0.1
    assert results.cells[0].name in summaries_to_measure(results)


def test_the_best_choice_by_its_mean_and_of_it_the_best_seed_though_a_run_of_another_was_lucky():
    results = cube({"patch_size": -0.2, "stages": 0.05})
    results.cells[-1].runs[0].summary["metrics"]["val/acc1"] = 0.9999
    cell, run, score = pick(results)
    assert cell.choices["model.design.patch_size"] == 4
    assert cell.choices["model.design.stages"] == 4
    assert score == max(each.summary["metrics"]["val/acc1"] for each in cell.runs) == run.summary["metrics"]["val/acc1"]


def test_a_loss_is_better_when_it_is_low():
    results = cube({"patch_size": -0.2})
    _, run, score = pick(replace(results, objectives={"val/loss": "min"}))
    losses = [each.summary["metrics"]["val/loss"] for cell in results.cells for each in cell.runs]
    assert score == run.summary["metrics"]["val/loss"] <= sorted(losses)[2]


def test_runs_that_are_not_done_do_not_count():
    assert pick(nothing_done()) is None
