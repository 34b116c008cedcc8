"""Real fits: what is killed, stopped or lost goes on, and the weights are those of a sweep that nothing disturbed."""

import csv
import json
import os
import re
import signal
from socket import gethostname

import pytest
import torch
from optuna.trial import TrialState

from shvit_pl.runs.folder import finished_run, read_summary
from shvit_pl.sweep.engine.study import ERROR, LOST
from tests.conftest import once_per_session
from tests.sweep import small
from tests.sweep.engine.conftest import add_node
from tests.sweep.engine.launch import RUN, kill, processes_of, wait_until
from tests.sweep.engine.real import EPOCHS, LONGEST, STEPS, real

pytestmark = pytest.mark.slow
RATES = [0.001, 0.002]


@pytest.fixture
def undisturbed(tmp_path_factory):
    """The folder of a sweep that nothing disturbed."""

    def make(root):
        assert real(root, RATES, "--workers=2").wait(LONGEST) == 0

    return once_per_session(tmp_path_factory, "undisturbed", make) / "rates"


def assert_equal(folder, undisturbed):
    """The last weights of each run are those of an undisturbed sweep, as are results.csv, but for times and memory."""
    runs = sorted(run.name for run in folder.glob("runs/*"))
    assert runs == sorted(run.name for run in undisturbed.glob("runs/*"))
    for name in runs:
        state, expected = (weights(root / "runs" / name) for root in (folder, undisturbed))
        assert state.keys() == expected.keys()
        assert all(torch.equal(value, expected[key]) for key, value in state.items()), name
    assert table(folder) == table(undisturbed)


def weights(run):
    return torch.load(finished_run(run) / "checkpoints" / "last.ckpt", weights_only=False)["state_dict"]


def table(folder):
    text = re.sub("=[^ ]*/rates/", "=rates/", (folder / "results.csv").read_text())  # of the runs' root
    rows = csv.DictReader(text.splitlines())
    return [{name: value for name, value in row.items() if not re.search("second|memory", name)} for row in rows]


def midway(folder, but=()):
    """Wait for a run that goes on and has a checkpoint; returns its name and its process."""
    found = []

    def find():
        for run in sorted(folder.glob("runs/*")):
            process = processes_of(folder, f"{RUN}{run.name}")
            has_begun = [*run.glob("version_*/checkpoints/last.ckpt")] and not [*run.glob("version_*/summary.json")]
            if process and has_begun and run.name not in but:
                found.append((run.name, process[0]))
        return found

    assert wait_until(find, LONGEST)  # on a busy machine
    return found[0]


def test_fits_that_are_killed_or_stopped_by_ctrl_c_go_on_and_each_is_done_once(undisturbed, tmp_path):
    folder = tmp_path / "rates"
    driver = real(tmp_path, RATES, "--workers=2")
    first, process = midway(folder)
    second, _ = midway(folder, {first})
    kill(process)
    os.killpg(driver.pid, signal.SIGINT)  # as a terminal does, to all processes of the command
    assert driver.wait(60) == 130
    assert processes_of(folder) == []
    printed = (tmp_path / "rates.out").read_text()
    assert printed.endswith("stopped: 2 of 2 runs left; repeat the command to continue\n")
    lost = [trial.user_attrs for trial in small.trials(folder) if trial.user_attrs.get(LOST)]
    assert lost
    assert {each[ERROR] for each in lost} == {"interrupted"}
    assert real(tmp_path, RATES, "--workers=2").wait(LONGEST) == 0
    trials = small.trials(folder)
    done = sorted(trial.user_attrs["key"] for trial in trials if trial.state == TrialState.COMPLETE)
    assert done == sorted([first, second])
    for name in done:
        assert [version.name for version in (folder / "runs" / name).iterdir()] == ["version_0"]
        summary = read_summary(folder / "runs" / name / "version_0")
        assert (summary["epochs_trained"], summary["steps_trained"]) == (EPOCHS, EPOCHS * STEPS)
        log = (folder / "logs" / f"{name}.log").read_text()
        assert f"resuming from {folder}/runs/{name}/version_0/checkpoints/last.ckpt" in log
    assert all(json.loads(line) for line in (folder / "study.journal").read_text().splitlines())
    assert_equal(folder, undisturbed)


def test_the_same_sweep_file_gives_the_same_on_ray_though_a_node_leaves(undisturbed, tmp_path, lone_cluster):
    nodes = [add_node(lone_cluster, cores=1) for _ in range(2)]
    driver = real(tmp_path, RATES, "--engine=ray", f"--address={lone_cluster.address}", "--cpus_per_run=1")
    assert wait_until(lambda: len([*tmp_path.glob("rates/runs/*/*/checkpoints/last.ckpt")]) == 2, LONGEST)
    lone_cluster.remove_node(nodes[0], allow_graceful=False)
    assert driver.wait(LONGEST) == 0
    assert_equal(tmp_path / "rates", undisturbed)
    printed = (tmp_path / "rates.out").read_text()
    assert f"seed 0 begins again, after: its computer was lost (on {gethostname()})\n" in printed
    assert "raylet" not in printed
