"""The journal's lock is free once its holder is dead or has failed, and a torn line is cut."""

import subprocess
import sys

import pytest

from shvit_pl.sweep.engine.storage import KernelLock

HOLDING = """
import sys, time
from pathlib import Path
from shvit_pl.sweep.engine.storage import KernelLock
KernelLock(Path(sys.argv[1])).acquire()
print("held", flush=True)
time.sleep(float(sys.argv[2]))
"""


@pytest.fixture
def journal(tmp_path):
    (tmp_path / "study.journal").write_bytes(b'{"whole":1}\n{"torn')
    return tmp_path / "study.journal"


def test_a_killed_holder_frees_the_lock_at_once(journal):
    command = [sys.executable, "-c", HOLDING, str(journal), "60"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        process.kill()
        lock = KernelLock(journal)
        assert lock.acquire()
        lock.release()


def test_who_gets_the_lock_finds_whole_lines(journal):
    lock = KernelLock(journal)
    lock.acquire()
    assert journal.read_bytes() == b'{"whole":1}\n'
    lock.release()


def test_who_fails_to_get_the_lock_does_not_keep_it(journal, tmp_path):
    missing = tmp_path / "missing.journal"
    lock = KernelLock(missing)
    with pytest.raises(FileNotFoundError):
        lock.acquire()
    missing.write_bytes(b"")
    assert subprocess.run([sys.executable, "-c", HOLDING, str(missing), "0"], timeout=10).returncode == 0
