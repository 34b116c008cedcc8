"""The driver: shares of the machine, runs that fail, what is stopped or killed; every point is done exactly once."""

import signal
from contextlib import suppress
from pathlib import Path
from random import Random
from time import monotonic, sleep

import pytest

from shvit_pl.compat import cores_of_process
from shvit_pl.sweep.engine.sweep_study import ERROR, KEY, OWNER, REPEATED, is_fault
from shvit_pl.sweep.processes import this_process
from shvit_pl.sweep.watch import LiveTable
from tests.sweep.engine.launch import RUN, assert_done_once, kill, processes_of, wait_until

LOSS = "RuntimeError: the loss is not finite"
USAGE = "shvit-pl fit: error: --model.optim.lr -1: allowed are rates above 0."
KILLED = "killed by SIGKILL; about to get into trouble"
UNREADABLE = "JSONDecodeError: Expecting value: line 1 column 1 (char 0)"
ROUNDS = [0, *(pytest.param(seed, marks=pytest.mark.full) for seed in range(1, 20))]
KILLS = 9  # in a round, at most
LONGEST = 120.0  # seconds of a round


def test_gpus_go_round_and_cores_are_shared(sweep, monkeypatch):
    sweep.points, sweep.gpus, sweep.seconds = 4, ["0", "1"], 0.2
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setenv("SLURM_PROCID", "3")
    monkeypatch.setenv("SLURM_NTASKS", "4")
    assert sweep.run() == 0
    seen = [line["environment"] for line in sweep.lines("start")]
    assert {each["CUDA_VISIBLE_DEVICES"] for each in seen} == {"0", "1"}
    assert {each["OMP_NUM_THREADS"] for each in seen} == {str(max(1, cores_of_process() // 4))}
    assert not any(name.startswith("SLURM") for each in seen for name in each)


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
    assert sorted((fault[KEY][:4], fault[ERROR]) for fault in faults) == sorted([*once, *twice])
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


def running(sweep, count):
    """Whether so many runs have begun to train."""
    return wait_until(lambda: len(list(Path(sweep.folder).glob("runs/*/*/checkpoints/last.ckpt"))) >= count, 60)


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_that_is_swallowed_on_its_way_stops_the_sweep_all_the_same(sweep, sent, code, monkeypatch, capsys):
    def show(self, status):
        with suppress(BaseException):  # as a destructor would that runs just then
            signal.raise_signal(sent)

    monkeypatch.setattr(LiveTable, "show", show)
    sweep.workers, sweep.report = 0, True
    before = signal.getsignal(sent)
    assert sweep.run() == code
    assert capsys.readouterr().out.endswith("stopped: 10 of 10 runs left; repeat the command to continue\n")
    assert signal.getsignal(sent) == before


@pytest.mark.slow
def test_two_drivers_share_the_points(sweep, storage):
    sweep.storage, sweep.workers = storage, 2
    drivers = [sweep.start(), sweep.start()]
    assert wait_until(lambda: len(processes_of(sweep.folder, RUN)) == 4)  # two at a time of each
    assert [driver.wait(90) for driver in drivers] == [0, 0]
    assert_done_once(sweep)
    assert {trial.user_attrs[OWNER]["pid"] for trial in sweep.study().trials()} == {driver.pid for driver in drivers}
    assert len(sweep.lines("start")) == sweep.points


def test_a_driver_that_does_not_wait_leaves_the_runs_of_others_to_them(sweep):
    sweep.points, sweep.workers, sweep.wait, sweep.heartbeat = 3, 2, False, 30.0  # none is taken for dead
    Path(sweep.folder).mkdir()
    study = sweep.study()
    study.enqueue_missing(list(sweep.definition.points.values())[:1], retries=0)
    elsewhere = study.claim({**this_process(), "machine": "another", "host": "far"})
    assert sweep.run() == 0
    states = {trial.number: trial.state.name for trial in study.trials()}
    assert states.pop(elsewhere.number) == "RUNNING"
    assert list(states.values()) == ["COMPLETE"] * 2  # its own it waits for


def test_a_killed_driver_takes_its_runs_along_and_they_go_on_from_their_checkpoints(sweep):
    sweep.points, sweep.workers, sweep.retries, sweep.seconds = 2, 2, 0, 3
    driver = sweep.start()
    assert running(sweep, 2)
    kill(driver.pid)
    driver.wait()
    assert wait_until(lambda: not processes_of(sweep.folder), 1)
    sweep.seconds = 0.1
    assert sweep.run() == 0
    assert_done_once(sweep)
    assert all("resuming from" in sweep.log(number) for number in range(2))


def test_drivers_at_work_on_one_small_space_run_each_of_its_points_once(sweep, storage):
    sweep.storage, sweep.points, sweep.workers, sweep.seconds = storage, 8, 3, 0.1
    sweep.choices = [number / 100 for number in range(1, 9)]
    drivers = [sweep.start() for _ in range(2)]
    assert [driver.wait(LONGEST) for driver in drivers] == [0, 0]
    assert_done_once(sweep)
    found = [trial.params["model.optim.lr"] for trial in sweep.study().trials() if trial.state.name == "COMPLETE"]
    assert sorted(found) == sweep.choices
    assert [trial for trial in sweep.study().trials() if REPEATED in trial.user_attrs]
    assert not any(map(is_fault, sweep.study().trials()))


def kill_at_random(sweep, draw):
    """Kill runs and drivers, and start drivers in place of those, until the sweep is done."""
    drivers, kills, until = [sweep.start()], 0, monotonic() + LONGEST
    while any(driver.poll() is None for driver in drivers):
        assert monotonic() < until, f"not done after {kills} kills"
        sleep(draw.uniform(0, 0.7))
        runs = sorted(processes_of(sweep.folder, RUN))
        if kills == KILLS:
            continue
        if draw.random() < 0.67:
            kills += bool(runs)
            for run in draw.sample(runs, min(1, len(runs))):
                kill(run)
            continue
        driver = draw.choice(drivers)
        if driver.poll() is None:
            its = set(map(int, Path(f"/proc/{driver.pid}/task/{driver.pid}/children").read_text().split()))
            kill(driver.pid)
            driver.wait()
            kills += 1
            assert wait_until(lambda its=its: not its & set(processes_of(sweep.folder)), 5), "orphans"
            drivers.remove(driver)
            drivers += [sweep.start() for _ in range(2 if not drivers and draw.random() < 0.3 else 1)]
    assert {driver.returncode for driver in drivers} == {0}


@pytest.mark.slow
@pytest.mark.parametrize("seed", ROUNDS)
def test_random_kills_lose_nothing_and_repeat_nothing(sweep, storage, seed):
    sweep.storage = storage
    kill_at_random(sweep, Random(seed))
    assert_done_once(sweep)
    before = sweep.ledger.read_text()
    assert sweep.run() == 0
    assert sweep.ledger.read_text() == before
    assert_done_once(sweep)
