"""Real fits, by the command as a user gives it: a fit is killed, all is stopped; nothing is done twice."""

import json
import os
import signal
import subprocess
import sys

import pytest
import yaml
from optuna.trial import TrialState

from shvit_pl.runs.folder import read_summary
from shvit_pl.sweep.engine.study import ERROR, LOST
from tests.sweep import small
from tests.sweep.engine.launch import ROOT, RUN, kill, processes_of, wait_until

EPOCHS, STEPS = 2, 25  # of each epoch
SWEEP = {"base": "s1.yaml", "grid": {"model.optim.lr": [0.001, 0.002]}}
LENGTH = [f"--trainer.max_epochs={EPOCHS}", f"--trainer.limit_train_batches={STEPS}"]
FLAGS = [*small.FLAGS, *LENGTH, "--checkpoint_every_n_steps=1", "--workers=2", "--plain"]


def start(folder):
    (folder.parent / "rates.yaml").write_text(yaml.safe_dump(SWEEP))
    command = [sys.executable, "-m", "shvit_pl.cli", "sweep", "--config=rates.yaml", f"--folder={folder}", *FLAGS]
    with (folder.parent / "out.txt").open("a") as output:
        where = {"cwd": folder.parent, "env": {**os.environ, "PYTHONPATH": str(ROOT)}}
        return subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True, **where)


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

    assert wait_until(find, 300)  # on a busy machine
    return found[0]


@pytest.mark.slow
def test_real_fits_that_are_killed_or_stopped_by_ctrl_c_go_on_and_each_is_done_once(tmp_path):
    folder = tmp_path / "rates"
    driver = start(folder)
    first, process = midway(folder)
    second, _ = midway(folder, {first})
    kill(process)
    os.killpg(driver.pid, signal.SIGINT)  # as a terminal does, to all processes of the command
    assert driver.wait(60) == 130
    assert processes_of(folder) == []
    printed = (tmp_path / "out.txt").read_text()
    assert printed.endswith("stopped: 2 of 2 runs left; repeat the command to continue\n")
    lost = [trial.user_attrs for trial in small.trials(folder) if trial.user_attrs.get(LOST)]
    assert lost
    assert {each[ERROR] for each in lost} == {"interrupted"}
    assert start(folder).wait(300) == 0
    trials = small.trials(folder)
    done = sorted(trial.user_attrs["key"] for trial in trials if trial.state == TrialState.COMPLETE)
    assert done == sorted([first, second]) == sorted(run.name for run in folder.glob("runs/*"))
    for name in done:
        assert [version.name for version in (folder / "runs" / name).iterdir()] == ["version_0"]
        summary = read_summary(folder / "runs" / name / "version_0")
        assert (summary["epochs_trained"], summary["steps_trained"]) == (EPOCHS, EPOCHS * STEPS)
        log = (folder / "logs" / f"{name}.log").read_text()
        assert f"resuming from {folder}/runs/{name}/version_0/checkpoints/last.ckpt" in log
    assert all(json.loads(line) for line in (folder / "study.journal").read_text().splitlines())
