"""Runs and drivers of a sweep are killed at random, and every point is done exactly once."""

import json
from collections import Counter
from pathlib import Path
from random import Random
from time import monotonic, sleep

import pytest
from optuna.trial import TrialState

from tests.sweep.engine.processes import DRIVER, RUN, children_of, kill, processes_of, wait_until

ROUNDS = [*range(3), *(pytest.param(seed, marks=pytest.mark.full) for seed in range(3, 20))]
KILLS = 9  # in a round, at most
LONGEST = 120.0  # seconds of a round


class Round:
    """A sweep, its drivers and who kills them."""

    def __init__(self, sweep, seed):
        self.sweep, self.draw = sweep, Random(seed)
        self.drivers = [sweep.start()]
        self.killed = Counter()

    def run(self):
        """Kill, and start the drivers that were killed, until the sweep is done."""
        until = monotonic() + LONGEST
        while any(driver.poll() is None for driver in self.drivers):
            assert monotonic() < until, f"not done; killed so far {dict(self.killed)}"
            sleep(self.draw.uniform(0, 0.7))
            if self.killed.total() < KILLS:
                self.draw.choices([self.kill_run, self.kill_driver], weights=[2, 1])[0]()
        assert {driver.returncode for driver in self.drivers} == {0}

    def kill_run(self):
        runs = sorted(processes_of(self.sweep.folder, RUN))
        if runs:
            kill(self.draw.choice(runs))
            self.killed[RUN] += 1

    def kill_driver(self):
        """Kill one, see that nothing of it stays, and start one or two that join in."""
        driver = self.draw.choice(self.drivers)
        if driver.poll() is not None:
            return
        its = set(children_of(driver.pid))
        kill(driver.pid)
        driver.wait()
        self.killed[DRIVER] += 1
        self.drivers.remove(driver)
        assert wait_until(lambda: not its & set(processes_of(self.sweep.folder)), 5), "orphans"
        more = 2 if not self.drivers and self.draw.random() < 0.3 else 1
        self.drivers += [self.sweep.start() for _ in range(more)]


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
    Round(sweep, seed).run()
    assert_done_once(sweep)
    before = sweep.ledger.read_text()
    assert sweep.start().wait(90) == 0
    assert sweep.ledger.read_text() == before
    assert_done_once(sweep)
