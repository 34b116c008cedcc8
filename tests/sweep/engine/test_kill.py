"""Runs and drivers of a sweep are killed at random, and every point is done exactly once."""

import json
from collections import Counter
from pathlib import Path
from random import Random
from time import monotonic, sleep

import pytest
from optuna.trial import TrialState

from tests.sweep.engine.processes import RUN, children_of, kill, processes_of, wait_until

ROUNDS = [*range(3), *(pytest.param(seed, marks=pytest.mark.full) for seed in range(3, 20))]
KILLS = 9  # in a round, at most
LONGEST = 120.0  # seconds of a round


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
            its = set(children_of(driver.pid))
            kill(driver.pid)
            driver.wait()
            kills += 1
            assert wait_until(lambda its=its: not its & set(processes_of(sweep.folder)), 5), "orphans"
            drivers.remove(driver)
            drivers += [sweep.start() for _ in range(2 if not drivers and draw.random() < 0.3 else 1)]
    assert {driver.returncode for driver in drivers} == {0}


def assert_done_once(sweep):
    """Every point is done exactly once, says the study, the folders and the ledger; nothing runs, nothing is torn."""
    points = sweep.definition.points
    trials = sweep.study().trials()
    complete = Counter(trial.user_attrs["key"] for trial in trials if trial.state == TrialState.COMPLETE)
    assert complete == dict.fromkeys(points, 1)
    assert not [trial for trial in trials if not trial.state.is_finished()]
    summaries = [path.parts[-3] for path in Path(sweep.folder).glob("runs/*/version_*/summary.json")]
    assert sorted(summaries) == sorted(points)
    assert set(Counter(line["key"] for line in sweep.lines("done")).values()) == {1}
    assert sweep.lines("overlap") == []
    assert wait_until(lambda: not processes_of(sweep.folder), 5), "orphans"
    if sweep.storage is None:
        journal = (Path(sweep.folder) / "study.journal").read_bytes()
        assert journal.endswith(b"\n")
        assert all(json.loads(line) for line in journal.splitlines())


@pytest.mark.slow
@pytest.mark.parametrize("seed", ROUNDS)
def test_random_kills_lose_nothing_and_repeat_nothing(sweep, storage, seed):
    sweep.storage = storage
    kill_at_random(sweep, Random(seed))
    assert_done_once(sweep)
    before = sweep.ledger.read_text()
    assert sweep.start().wait(90) == 0
    assert sweep.ledger.read_text() == before
    assert_done_once(sweep)
