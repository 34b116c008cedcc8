"""A run that fails is recorded with its last line, tried again, and given up; all others are done."""

from pathlib import Path

import pytest
from optuna.trial import TrialState

from shvit_pl.sweep.engine.sweep_study import ERROR, is_fault

LOSS = "RuntimeError: the loss is not finite"
USAGE = "shvit-pl fit: error: --model.optim.lr -1: allowed are rates above 0."
KILLED = "killed by SIGKILL; about to get into trouble"


@pytest.fixture
def sweep(sweep):
    """Three points, the second of which is in trouble."""
    sweep.points, sweep.workers, sweep.retries = 3, 2, 1
    sweep.trouble = {"seconds": 0.2, "of": "lr-1"}
    return sweep


def faults(sweep):
    return [trial.user_attrs[ERROR] for trial in sweep.study().trials() if is_fault(trial)]


def done(sweep):
    return sorted(line["key"] for line in sweep.lines("done"))


@pytest.mark.parametrize(
    ("trouble", "times", "errors"),
    [
        ("raise", 2, [LOSS, LOSS]),
        ("raise", 1, [LOSS]),
        ("usage", 2, [USAGE, USAGE]),  # memory or a disk that is full may end a run so too
        ("die", 1, [KILLED]),
    ],
)
def test_a_run_that_fails_is_tried_again_and_given_up(trouble, times, errors, sweep):
    sweep.trouble |= {"trouble": trouble, "times": times}
    assert sweep.start().wait(60) == (times == 2)
    assert faults(sweep) == errors
    assert done(sweep) == [f"lr-{number}_seed-0" for number in range(3) if number != 1 or times == 1]
    if times == 2:
        assert f"lr 1, seed 0: failed: {errors[0]}" in sweep.output.read_text()


def test_starting_again_gives_what_failed_another_chance_and_repeats_nothing(sweep):
    sweep.trouble["trouble"] = "raise"
    assert sweep.start().wait(60) == 1
    sweep.trouble["trouble"] = None
    assert sweep.start().wait(60) == 0
    assert len(sweep.lines("start")) == 2 + 2 + 1
    assert len(done(sweep)) == 3
    assert sweep.start().wait(60) == 0
    assert len(sweep.lines("start")) == 5


def test_a_run_folder_that_cannot_be_read_fails_its_point_alone(sweep):
    run = Path(sweep.folder) / "runs" / "lr-1_seed-0" / "version_0"
    run.mkdir(parents=True)
    (run / "summary.json").write_text("")
    assert sweep.start().wait(60) == 1
    assert [error.split(":")[0] for error in faults(sweep)] == ["JSONDecodeError"] * 2
    assert done(sweep) == ["lr-0_seed-0", "lr-2_seed-0"]
    assert "JSONDecodeError" in (Path(sweep.folder) / "logs" / "lr-1_seed-0.log").read_text()


@pytest.mark.slow
def test_the_command_names_what_failed_and_how_to_go_on(sweep):
    sweep.trouble["trouble"], sweep.report = "raise", True
    assert sweep.start().wait(60) == 1
    for said in (f"1 of 3 runs failed, such as lr-1_seed-0: {LOSS}", "the same command tries them again"):
        assert said in sweep.output.read_text()
    assert (Path(sweep.folder) / "report.html").exists()
    assert {trial.state for trial in sweep.study().trials()} == {TrialState.COMPLETE, TrialState.FAIL}
