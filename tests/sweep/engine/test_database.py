"""A database that many processes find empty at once, or that goes away for a while, loses nothing."""

import subprocess
import sys
import time
import uuid

OPENING = """
import sys, time
from pathlib import Path
from shvit_pl.sweep.storage import open_storage
from shvit_pl.sweep.study import Board
time.sleep(max(0, float(sys.argv[2]) - time.time()))
Board(open_storage(Path(), sys.argv[1]), "numbers", ["max"])
"""


def test_several_drivers_may_start_at_once_in_an_empty_database(postgres):
    url, at = postgres.new(uuid.uuid4().hex), time.time() + 1.5
    command = [sys.executable, "-c", OPENING, url, str(at)]
    drivers = [subprocess.Popen(command) for _ in range(4)]
    assert [driver.wait(30) for driver in drivers] == [0] * 4
