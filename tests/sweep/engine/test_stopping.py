"""A driver that is stopped ends its runs within seconds and says what is left; another goes on, or joins in."""

import os
import signal
from contextlib import suppress
from pathlib import Path

import pytest

from shvit_pl.sweep.engine.driver import Driver, Launch
from shvit_pl.sweep.engine.reading import Place
from shvit_pl.sweep.engine.storage import open_journal
from shvit_pl.sweep.engine.sweep_study import ERROR, LOST, OWNER, SweepStudy
from shvit_pl.sweep.options import Options
from shvit_pl.sweep.processes import this_process
from tests.sweep.engine.launch import STUDY
from tests.sweep.engine.processes import RUN, kill, processes_of, wait_until
from tests.sweep.engine.test_kill import assert_done_once


def running(sweep, count):
    """Whether so many runs have begun to train."""
    return wait_until(lambda: len(list(Path(sweep.folder).glob("runs/*/*/checkpoints/last.ckpt"))) >= count, 60)


@pytest.mark.slow
@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["Ctrl-C", "SIGTERM"])
def test_stopping_ends_all_and_the_same_command_goes_on(sweep, sent, code):
    sweep.points, sweep.report, sweep.trouble = 4, True, {"seconds": 4}
    driver = sweep.start()
    assert running(sweep, 3)
    os.killpg(driver.pid, sent)  # as a terminal does, to all processes of the command
    assert driver.wait(20) == code
    assert processes_of(sweep.folder) == []
    assert sweep.output.read_text().endswith("stopped: 4 of 4 runs are left; the same command goes on with them\n")
    stopped = [trial.user_attrs for trial in sweep.study().trials() if trial.state.is_finished()]
    assert stopped
    assert {(facts[LOST], facts[ERROR]) for facts in stopped} == {(True, "interrupted")}
    sweep.report, sweep.retries = False, 0
    assert sweep.start().wait(90) == 0
    assert_done_once(sweep)
    logs = [log.read_text() for log in Path(sweep.folder).glob("logs/lr-*.log")]
    assert sum("going on from" in log for log in logs) >= 3


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
    study = SweepStudy(open_journal(Path(sweep.folder)), STUDY, ["max"])
    study.enqueue_missing(list(sweep.definition.points.values())[:1], retries=0)
    elsewhere = study.claim({**this_process(), "machine": "another", "host": "far"})
    assert sweep.start().wait(60) == 0
    states = {trial.number: trial.state.name for trial in study.trials()}
    assert states.pop(elsewhere.number) == "RUNNING"
    assert list(states.values()) == ["COMPLETE"] * 2  # its own it waits for


def test_ctrl_c_that_is_swallowed_on_its_way_stops_the_sweep_all_the_same(sweep):
    folder = Path(sweep.folder)
    folder.mkdir()
    study = SweepStudy(open_journal(folder), STUDY, ["max"])
    before = signal.getsignal(signal.SIGINT)

    def show(status):
        with suppress(BaseException):  # as a destructor would that runs just then
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        Driver(study, Launch(Place(folder, None, STUDY), (), []), Options()).drive(sweep.definition, show)
    assert signal.getsignal(signal.SIGINT) == before


def test_a_killed_driver_takes_its_runs_along_and_they_go_on_from_their_checkpoints(sweep):
    sweep.points, sweep.workers, sweep.retries, sweep.trouble = 2, 2, 0, {"seconds": 3}
    driver = sweep.start()
    assert running(sweep, 2)
    kill(driver.pid)
    driver.wait()
    assert wait_until(lambda: not processes_of(sweep.folder), 1)
    sweep.trouble = {"seconds": 0.1}
    assert sweep.start().wait(60) == 0
    assert_done_once(sweep)
    for number in range(2):
        assert "going on from" in (Path(sweep.folder) / "logs" / f"lr-{number}_seed-0.log").read_text()
