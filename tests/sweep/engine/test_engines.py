"""What every engine keeps: each point is done exactly once, whatever fails, hangs, is killed, leaves or joins."""

import signal
from datetime import datetime
from pathlib import Path
from random import Random
from socket import gethostname
from time import monotonic, sleep

import pytest

from shvit_pl.errors import UserError
from shvit_pl.sweep.engine.study import ERROR, KEY, is_fault
from tests.sweep.engine.launch import RUN, assert_done_once, kill, processes_of, running, wait_until

LOSS = "RuntimeError: the loss is not finite"
USAGE = "shvit-pl fit: error: --model.optim.lr -1: allowed are rates above 0."
KILLED = "killed by SIGKILL; about to get into trouble"
UNREADABLE = "JSONDecodeError: Expecting value: line 1 column 1 (char 0)"
ROUNDS = [*range(3), *(pytest.param(seed, marks=pytest.mark.full) for seed in range(3, 20))]
KILLS = 4  # in a round, at most
LONGEST = 240.0  # seconds of a round


ENGINES = [
    "local",
    pytest.param("ray", marks=pytest.mark.slow),
    pytest.param("slurm", marks=pytest.mark.slow),
]


@pytest.fixture(params=ENGINES)
def sweep(request, sweep):
    sweep.engine = request.param
    if sweep.engine == "ray":
        sweep.address = request.getfixturevalue("cluster").address
    if sweep.engine == "slurm":
        request.getfixturevalue("slurm")
    return sweep


def test_runs_that_fail_are_tried_again_and_given_up_and_the_same_command_gives_them_another_chance(sweep, capsys):
    sweep.points, sweep.retries, sweep.seconds, sweep.report = 6, 1, 0.2, True
    # memory or a disk that is full may end a run as a wrong flag does
    sweep.trouble = {"lr-1": ("raise", 2), "lr-2": ("raise", 1), "lr-3": ("usage", 2), "lr-4": ("die", 1)}
    unreadable = Path(sweep.folder) / "runs" / "lr-5_seed-0" / "version_0" / "summary.json"
    unreadable.parent.mkdir(parents=True)
    unreadable.write_text("")
    assert sweep.run() == 1
    faults = [trial.user_attrs for trial in sweep.study().trials() if is_fault(trial)]
    once = [("lr-1", LOSS), ("lr-2", LOSS), ("lr-3", USAGE), ("lr-4", KILLED), ("lr-5", UNREADABLE)]
    twice = ("lr-1", LOSS), ("lr-3", USAGE), ("lr-5", UNREADABLE)
    told = [(fault[KEY][:4], fault[ERROR].partition(" (on ")) for fault in faults]
    assert sorted((key, error) for key, (error, *_) in told) == sorted([*once, *twice])
    nodes = {where.rstrip(")") for _, (_, _, where) in told if where}
    assert bool(nodes) == (sweep.engine != "local")
    assert nodes <= {gethostname(), f"{gethostname()}-other"}  # the second is SLURM's
    assert done(sweep) == ["lr-0", "lr-2", "lr-4"]
    assert "JSONDecodeError" in sweep.log(5)
    printed = capsys.readouterr().out
    assert f"lr 1, seed 0: failed: {LOSS}" in printed
    assert f"3 of 6 runs failed, for example lr-1_seed-0: {LOSS}" in printed
    assert "repeat the command to retry them" in printed
    assert (Path(sweep.folder) / "report.html").exists()

    unreadable.unlink()
    starts, sweep.report = len(sweep.lines("start")), False
    for _ in range(2):
        assert sweep.run() == 0
        assert len(sweep.lines("start")) == starts + 3
        assert done(sweep) == [f"lr-{number}" for number in range(6)]


def done(sweep):
    return sorted(line["key"][:4] for line in sweep.lines("done"))


def test_a_second_driver_is_refused_and_ctrl_c_ends_the_runs_and_the_same_command_goes_on(sweep):
    sweep.points, sweep.workers, sweep.report, sweep.seconds = 3, 2, True, 20
    driver = sweep.start()
    assert running(sweep, 2)
    place = f"process {driver.pid} on {gethostname()}, since {datetime.now():%Y-%m-%d}"
    with pytest.raises(
        UserError, match=rf"^--folder '{sweep.folder}': a sweep is running in it, {place} \d\d:\d\d\. Wait"
    ):
        sweep.run()
    driver.send_signal(signal.SIGINT)
    assert driver.wait(60) == 130
    assert wait_until(lambda: not processes_of(sweep.folder), 5)
    assert sweep.output.read_text().endswith("stopped: 3 of 3 runs left; repeat the command to continue\n")
    sweep.seconds, sweep.report = 0.1, False
    assert sweep.run() == 0
    assert_done_once(sweep)


def test_a_run_that_hangs_is_stopped_and_tried_again(sweep):
    seconds = 3 if sweep.engine == "local" else 15  # another engine's time counts too
    sweep.points, sweep.retries, sweep.seconds, sweep.timeout = 2, 1, 0.2, seconds / 60
    sweep.trouble = {"lr-1": ("hang", 1)}
    assert sweep.run() == 0
    assert_done_once(sweep)
    (fault,) = [trial.user_attrs for trial in sweep.study().trials() if is_fault(trial)]
    assert fault[KEY] == "lr-1_seed-0"
    assert fault[ERROR].endswith(f"minutes (--timeout {seconds / 60:g})")


def test_a_killed_driver_takes_its_runs_along_and_they_go_on_from_their_checkpoints(sweep):
    if sweep.engine == "slurm":
        pytest.skip("its jobs keep their places; tests/sweep/engine/test_slurm.py")
    sweep.points, sweep.workers, sweep.retries, sweep.seconds = 2, 2, 0, 3
    driver = sweep.start()
    assert running(sweep, 2)
    kill(driver.pid)
    driver.wait()
    assert wait_until(lambda: not processes_of(sweep.folder), 10)
    sweep.seconds = 0.1
    assert sweep.run() == 0
    assert_done_once(sweep)
    assert all("resuming from" in sweep.log(number) for number in range(2))


def kill_at_random(sweep, draw):
    """Kill runs and the driver, and start another in its place, until the sweep is done."""
    driver, kills, until = sweep.start(), 0, monotonic() + LONGEST
    while driver.poll() is None:
        assert monotonic() < until, f"not done after {kills} kills"
        sleep(draw.uniform(0, 0.7))
        runs = sorted(processes_of(sweep.folder, RUN))
        if kills == KILLS:
            continue
        if draw.random() < 0.67:
            kills += bool(runs)
            for run in draw.sample(runs, min(1, len(runs))):
                kill(run)
        elif driver.poll() is None:
            kill(driver.pid)
            driver.wait()
            kills += 1
            assert sweep.engine == "slurm" or wait_until(lambda: not processes_of(sweep.folder), 10), "orphans"
            driver = sweep.start()
    assert driver.returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize("seed", ROUNDS)
def test_random_kills_lose_nothing_and_repeat_nothing(sweep, seed):
    sweep.points = 6
    kill_at_random(sweep, Random(seed))
    assert_done_once(sweep)
    before = sweep.ledger.read_text()
    assert sweep.run() == 0
    assert sweep.ledger.read_text() == before
    assert_done_once(sweep)
