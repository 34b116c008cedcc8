"""What a sweep shows while it runs: each run's command and end, once, and on a terminal a live table below them."""

import os
import pty
import re
import select
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from shvit_pl.sweep.engine.reading import RunStatus, Status
from shvit_pl.sweep.plan.definition import Point
from shvit_pl.sweep.watch import LiveTable
from tests.sweep.small import PATCHES, arguments

ROOT = Path(__file__).parents[2]

A, B, C = (Point(f"{name}_seed-0", name, {}, 0) for name in "abc")
COMMAND = "shvit-pl fit --config=s1.yaml '--x=[1, 2]'"
START = Status(3, (), (), (), None, {"val/acc1": "max"})
RUNS = replace(START, running=(RunStatus(A, 2.0, f"{COMMAND} a"), RunStatus(B, 1.0)))
DONE = RunStatus(A, 61.0, f"{COMMAND} a", (0.51234,))
FAILED = RunStatus(B, 5.0, f"{COMMAND} b", error="no memory")
PRUNED = RunStatus(C, 30.0, f"{COMMAND} c", (0.25,), pruned=True)


def printed(capsys, folder, *statuses):
    with LiveTable(folder) as table:
        for status in statuses:
            table.show(status)
    return capsys.readouterr().out.splitlines()


def test_a_command_is_printed_once_it_is_known_and_once(capsys, tmp_path):
    known = replace(RUNS, running=(RUNS.running[0], RunStatus(B, 2.0, f"{COMMAND} b")))
    assert printed(capsys, tmp_path, START, RUNS, RUNS, known, known) == [
        f"a, seed 0 begins: {COMMAND} a",
        f"b, seed 0 begins: {COMMAND} b",
    ]


def test_an_end_is_told_once_with_what_is_left(capsys, tmp_path):
    one = replace(RUNS, ended=(DONE,), running=(), seconds_left=122.0)
    all_of_them = replace(START, ended=(DONE, PRUNED), failed=(FAILED,))
    assert printed(capsys, tmp_path, START, RUNS, one, one, all_of_them)[1:] == [
        "a, seed 0: val/acc1 0.5123 in 0:01:01  (2 left, about 0:02:02)",
        f"c, seed 0 begins: {COMMAND} c",
        "c, seed 0: val/acc1 0.25 in 0:00:30 (pruned)  (0 left)",
        f"b, seed 0 begins: {COMMAND} b",
        "b, seed 0: failed: no memory  (0 left)",
    ]


def test_what_was_there_before_is_counted_and_not_told_again(capsys, tmp_path):
    before = replace(START, ended=(DONE,))
    assert printed(capsys, tmp_path, before, replace(before, ended=(DONE, PRUNED))) == [
        "1 of 3 runs were there already",
        f"c, seed 0 begins: {COMMAND} c",
        "c, seed 0: val/acc1 0.25 in 0:00:30 (pruned)  (1 left)",
    ]


def test_two_runs_that_end_at_once_were_not_there_before(capsys, tmp_path):
    lines = printed(capsys, tmp_path, START, replace(START, ended=(DONE, PRUNED)))
    assert not any("already" in line for line in lines)
    assert len(lines) == 4


def on_a_terminal(args):
    """What a process prints on a terminal of its own."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm", "COLUMNS": "120", "LINES": "40"}
    with subprocess.Popen(
        [sys.executable, "-m", "shvit_pl.cli", *args], stdin=theirs, stdout=theirs, stderr=theirs, env=environment
    ) as process:
        os.close(theirs)
        printed = b""
        while process.poll() is None or select.select([ours], [], [], 0)[0]:
            try:
                printed += os.read(ours, 4096) if select.select([ours], [], [], 1)[0] else b""
            except OSError:  # the other end is closed
                break
    os.close(ours)
    assert process.returncode == 0
    return printed.decode()


@pytest.mark.slow
def test_a_terminal_shows_a_live_table_below_the_commands(tmp_path):
    printed = on_a_terminal(arguments(tmp_path / "live", PATCHES))
    seen = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", printed)
    assert "━" in seen
    for text in ("0/2 runs", "1/2 runs", "1 running", "best so far: val/acc1 0.", "left", "seed 0"):
        assert text in seen
    assert "patch_size 16, seed 0 begins: shvit-pl fit --config=s1.yaml" in seen
    assert re.search(r"about 0:\d\d:\d\d left", seen)


@pytest.mark.slow
def test_a_terminal_shows_plain_lines_where_asked_for(tmp_path):
    printed = on_a_terminal(arguments(tmp_path / "plain", PATCHES.replace("16, 8", "16"), "--plain"))
    assert "\x1b" not in printed
    assert "best so far" not in printed
    assert "patch_size 16, seed 0 begins: shvit-pl fit" in printed
    assert "patch_size 16, seed 0: val/acc1 0." in printed
