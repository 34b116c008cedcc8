"""Of a sweep, the best run is pushed, and its card shows the sweep."""

import json
from dataclasses import replace

import pytest

from shvit_pl.cli import main
from shvit_pl.sweep.best import best_run, pick
from tests.sweep.report.sweeps import at, cube
from tests.sweep.small import sweep


def test_the_best_choice_by_its_mean_and_of_it_the_best_seed():
    results = cube({"patch_size": -0.2, "stages": 0.05})
    cell, run, score = pick(results)
    assert cell.choices["model.design.patch_size"] == 4
    assert cell.choices["model.design.stages"] == 4
    assert score == max(each.summary["metrics"]["val/acc1"] for each in cell.runs) == run.summary["metrics"]["val/acc1"]


def test_a_lucky_run_of_a_worse_choice_is_not_taken():
    results = cube({"patch_size": -0.2}, noise=0)
    lucky = results.cells[-1].runs[0].summary["metrics"]
    lucky["val/acc1"] = 0.999
    cell, _, score = pick(results)
    assert cell is not results.cells[-1]
    assert score < 0.999


def test_a_loss_is_better_when_it_is_low():
    results = cube({"patch_size": -0.2})
    _, run, score = pick(replace(results, objectives={"val/loss": "min"}))
    losses = [each.summary["metrics"]["val/loss"] for cell in results.cells for each in cell.runs]
    assert score == run.summary["metrics"]["val/loss"] <= sorted(losses)[2]


def test_runs_that_are_not_done_do_not_count():
    results = cube()
    waiting = [replace(cell, runs=tuple(at(run, "waiting") for run in cell.runs)) for cell in results.cells]
    assert pick(replace(results, cells=tuple(waiting))) is None


@pytest.mark.slow
def test_a_real_sweep_is_pushed_with_its_table_from_where_its_best_run_is(hub, tmp_path, capsys):
    code, _ = sweep(tmp_path / "small", "base: s1.yaml\ngrid: {model.design.patch_size: [16, 8]}\n")
    assert code == 0
    assert main(["push", str(tmp_path / "small"), "--repo-id=user/small"]) == 0
    files = hub.repo("user/small").files
    best, choice = best_run(tmp_path / "small")
    summary = json.loads((best / "summary.json").read_text())
    assert json.loads(files["summary.json"])["metrics"] == summary["metrics"]
    card = files["README.md"].decode()
    assert "## Selected from a sweep" in card
    assert "| no. | patch_size |" in card
    assert choice.reason in card
    assert str(tmp_path) not in card
    for path in (tmp_path / "small/runs").rglob("summary.json"):
        path.unlink()
    capsys.readouterr()
    assert main(["push", str(tmp_path / "small"), "--repo-id=user/small", "--dry-run"]) == 2
    assert "is not on this machine" in capsys.readouterr().err
