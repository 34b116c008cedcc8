"""The journal's lock is free once its holder is dead or has failed, and a torn line is cut."""

import json
import subprocess
import sys

import pytest

from shvit_pl.sweep.engine.storage import KernelLock, open_journal
from shvit_pl.sweep.engine.sweep_study import SweepStudy
from shvit_pl.sweep.plan.definition import Point

HOLDING = """
import sys, time
from pathlib import Path
from shvit_pl.sweep.engine.storage import KernelLock
KernelLock(Path(sys.argv[1])).acquire()
print("held", flush=True)
time.sleep(float(sys.argv[2]))
"""


def test_a_killed_holder_frees_the_lock_at_once_and_who_gets_it_finds_whole_lines(tmp_path):
    journal = tmp_path / "study.journal"
    journal.write_bytes(b'{"whole":1}\n')
    command = [sys.executable, "-c", HOLDING, str(journal), "60"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        journal.write_bytes(b'{"whole":1}\n{"torn')
        process.kill()
        lock = KernelLock(journal)
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


def test_who_fails_to_get_the_lock_does_not_keep_it(tmp_path):
    missing = tmp_path / "missing.journal"
    lock = KernelLock(missing)
    with pytest.raises(FileNotFoundError):
        lock.acquire()
    missing.write_bytes(b"")
    assert subprocess.run([sys.executable, "-c", HOLDING, str(missing), "0"], timeout=10).returncode == 0
