"""The lines about each run's begin and end, once, and the live table below them on a terminal."""

import re
from dataclasses import replace

import pytest

from shvit_pl.sweep.definition import LOGS, Point
from shvit_pl.sweep.engine.reading import RunStatus, Status
from shvit_pl.sweep.watch import LiveTable

A, B, C = (Point(f"{name}_seed-0", name, {}, 0) for name in "abc")
COMMAND = "shvit-pl fit --config=s1.yaml '--x=[1, 2]'"
START = Status(3, (), (), (), None, {"val/acc1": "max"})
RUNS = replace(START, running=(RunStatus(A, 2.0, f"{COMMAND} a"), RunStatus(B, 1.0)))
DONE = RunStatus(A, 61.0, f"{COMMAND} a", (0.51234,))
FAILED = RunStatus(B, 5.0, f"{COMMAND} b", error="no memory")
PRUNED = RunStatus(C, 30.0, f"{COMMAND} c", (0.25,), pruned=True)


@pytest.fixture
def printed(capsys, tmp_path):
    """The lines about statuses."""

    def printed(*statuses, plain=False):
        with LiveTable(tmp_path, plain) as table:
            for status in statuses:
                table.show(status)
        return capsys.readouterr().out.splitlines()

    return printed


def test_begin_and_end_are_printed_once_the_command_as_soon_as_it_is_known_and_what_is_left(printed):
    known = replace(RUNS, running=(RUNS.running[0], RunStatus(B, 2.0, f"{COMMAND} b")))
    begun = [f"{name}, seed 0 begins: {COMMAND} {name}" for name in "abc"]
    assert printed(START, RUNS, RUNS, known, known) == begun[:2]
    one = replace(RUNS, ended=(DONE,), running=(), seconds_left=122.0)
    all_of_them = replace(START, ended=(DONE, PRUNED), failed=(FAILED,))
    assert printed(START, RUNS, one, one, all_of_them) == [
        begun[0],
        "a, seed 0: val/acc1 0.5123 in 0:01:01  (2 left, about 0:02:02)",
        begun[2],
        "c, seed 0: val/acc1 0.25 in 0:00:30 (pruned)  (0 left)",
        begun[1],
        "b, seed 0: failed: no memory  (0 left)",
    ]


def test_a_run_that_begins_again_says_why_once(printed):
    again = replace(START, running=(replace(RUNS.running[0], before=("its computer was lost (on n2)",)),))
    begun = f"a, seed 0 begins: {COMMAND} a"
    assert printed(START, again, again) == [begun]
    told = "a, seed 0 begins again, after: its computer was lost (on n2)"
    assert printed(START, replace(RUNS, running=RUNS.running[:1]), again, again) == [begun, told]


def test_runs_of_before_are_counted_and_those_that_end_at_once_are_not_among_them(printed):
    before, both = replace(START, ended=(DONE,)), replace(START, ended=(DONE, PRUNED))
    new = [f"c, seed 0 begins: {COMMAND} c", "c, seed 0: val/acc1 0.25 in 0:00:30 (pruned)  (1 left)"]
    assert printed(before, both) == ["1 of 3 runs were done before", *new]
    lines = printed(START, both)
    assert lines[2:] == new
    assert len(lines) == 4


def test_a_terminal_has_a_live_table_below_the_commands_unless_lines_are_asked_for(printed, tmp_path, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")  # a terminal for rich
    monkeypatch.setenv("COLUMNS", "120")
    (tmp_path / LOGS).mkdir()
    (tmp_path / LOGS / f"{A.key}.log").write_text("$ shvit-pl fit\nepoch 1\n")
    (tmp_path / LOGS / f"{B.key}.log").write_text("$ shvit-pl fit")
    status = replace(RUNS, ended=(PRUNED,), seconds_left=122.0)
    shown = "\n".join(printed(START, status))
    *commands, bar, first, second, best = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", shown).splitlines()
    assert any(f"a, seed 0 begins: {COMMAND} a" in line for line in commands)
    assert re.search("━ +1/3 runs +2 running +about 0:02:02 left", bar)
    assert first.split() == ["a", "seed", "0", "0:00:02", "epoch", "1"]
    assert second.split() == ["b", "seed", "0", "0:00:01", "starting"]
    assert best.strip() == "best so far: val/acc1 0.25, c, seed 0"
    plain = "\n".join(printed(START, status, plain=True))
    assert "\x1b" not in plain
    assert "best so far" not in plain
    assert f"a, seed 0 begins: {COMMAND} a" in plain
