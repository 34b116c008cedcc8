"""A database that many processes find empty at once, or that goes away for a while, loses nothing."""

import subprocess
import sys
import time
import uuid

import pytest

from tests.sweep.engine.processes import wait_until
from tests.sweep.engine.test_kill import assert_done_once

OPENING = """
import sys, time
from pathlib import Path
from shvit_pl.sweep.engine.storage import open_storage
from shvit_pl.sweep.engine.sweep_study import SweepStudy
time.sleep(max(0, float(sys.argv[2]) - time.time()))
SweepStudy(open_storage(Path(), sys.argv[1]), "numbers", ["max"])
"""


def test_several_drivers_may_start_at_once_in_an_empty_database(postgres):
    url, at = postgres.new(uuid.uuid4().hex), time.time() + 1.5
    command = [sys.executable, "-c", OPENING, url, str(at)]
    drivers = [subprocess.Popen(command) for _ in range(4)]
    assert [driver.wait(60) for driver in drivers] == [0] * 4


@pytest.mark.slow
def test_a_database_that_goes_away_for_longer_than_the_grace_time_loses_and_repeats_nothing(sweep, postgres):
    sweep.storage, sweep.trouble = postgres.new(uuid.uuid4().hex), {"seconds": 6}
    sweep.points = 6
    driver = sweep.start()
    assert wait_until(lambda: len(sweep.lines("start")) == 4)
    time.sleep(1)
    postgres.stop()
    try:
        time.sleep(8 * sweep.heartbeat)
    finally:
        postgres.start()
    assert driver.wait(60) == 0
    assert_done_once(sweep)
    assert len(sweep.lines("start")) == sweep.points
