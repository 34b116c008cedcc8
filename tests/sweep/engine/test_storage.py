"""The journal's lock is free once its holder is dead or has failed, and a torn line is cut; databases lose nothing.

Many processes may find a database empty at once, or it goes away for a while.
"""

import json
import subprocess
import sys
import time

import pytest

from shvit_pl.sweep.definition import Point
from shvit_pl.sweep.engine.storage import KernelLock, open_journal
from shvit_pl.sweep.engine.sweep_study import SweepStudy
from tests.sweep.engine.launch import assert_done_once, wait_until

HOLDING = """
import sys, time
from pathlib import Path
from shvit_pl.sweep.engine.storage import KernelLock
KernelLock(Path(sys.argv[1])).acquire()
print("held", flush=True)
time.sleep(60)
"""


def test_the_lock_is_free_once_its_holder_has_failed_or_is_killed_and_the_next_finds_whole_lines(tmp_path):
    journal = tmp_path / "study.journal"
    lock = KernelLock(journal)
    with pytest.raises(FileNotFoundError):
        lock.acquire()
    journal.write_bytes(b'{"whole":1}\n')
    command = [sys.executable, "-c", HOLDING, str(journal)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        journal.write_bytes(b'{"whole":1}\n{"torn')
        process.kill()
        assert lock.acquire()
        assert journal.read_bytes() == b'{"whole":1}\n'
        lock.release()


def test_a_study_whose_journal_is_torn_goes_on(tmp_path):
    SweepStudy(open_journal(tmp_path), "torn", ["max"])
    with (tmp_path / "study.journal").open("ab") as journal:
        journal.write(b'{"op_code":8,"worker_id":"of one that was killed in the midd')
    for _ in range(2):
        study = SweepStudy(open_journal(tmp_path), "torn", ["max"])
        study.enqueue_missing([Point(key, key, {}, 0) for key in "ab"], retries=0)
    assert list(study.trials_by_key()) == ["a", "b"]
    assert all(json.loads(line) for line in (tmp_path / "study.journal").read_text().splitlines())


OPENING = """
import sys, time
from pathlib import Path
from shvit_pl.sweep.engine.storage import open_storage
from shvit_pl.sweep.engine.sweep_study import SweepStudy
time.sleep(max(0, float(sys.argv[2]) - time.time()))
SweepStudy(open_storage(Path(), sys.argv[1]), "numbers", ["max"])
"""


def test_several_drivers_may_start_at_once_in_an_empty_database(postgres):
    url, at = postgres.new_database(), time.time() + 1.5
    command = [sys.executable, "-c", OPENING, url, str(at)]
    drivers = [subprocess.Popen(command) for _ in range(3)]
    assert [driver.wait(60) for driver in drivers] == [0] * 3


@pytest.mark.slow
def test_a_database_that_goes_away_for_longer_than_the_grace_time_loses_and_repeats_nothing(sweep, postgres):
    sweep.storage, sweep.points, sweep.seconds = postgres.new_database(), 6, 6
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
