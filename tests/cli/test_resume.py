"""A run that was killed and resumed ends with the weights of the run that was not."""

import csv
import os
import signal
import subprocess
import sys
import time

import torch

from shvit_pl.runs import read_summary
from tests.cli.runs import QUICK, fit

FLAGS = [
    "--trainer.max_epochs=4",
    "--trainer.limit_train_batches=15",
    "--trainer.log_every_n_steps=1",
    "--model.design.drop_path=0.2",
]


def weights(folder):
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


def kill_after_two_epochs(folder):
    """Start the run as a process of its own and kill it, without a warning, in its third epoch."""
    command = [sys.executable, "-m", "shvit_pl.cli", "fit", *QUICK, *FLAGS]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        metrics = folder / "metrics.csv"
        steps = [int(row["step"]) for row in csv.DictReader(metrics.open())] if metrics.exists() else []
        if max(steps, default=0) >= 32:
            break
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()


def test_a_killed_run_resumes_in_its_folder_and_ends_with_the_same_weights(tmp_path):
    cut, whole = tmp_path / "runs" / "tiny" / "version_0", tmp_path / "whole" / "tiny" / "version_0"
    kill_after_two_epochs(cut)
    assert not (cut / "summary.json").exists()
    assert fit(*FLAGS, f"--ckpt_path={cut / 'checkpoints' / 'last.ckpt'}") == 0
    assert fit(*FLAGS, f"--trainer.default_root_dir={tmp_path / 'whole'}") == 0
    for key, tensor in weights(whole).items():
        assert torch.equal(tensor, weights(cut)[key]), key
    assert read_summary(cut)["metrics"] == read_summary(whole)["metrics"]
    steps = {
        folder: [row["step"] for row in csv.DictReader((folder / "metrics.csv").open())] for folder in (cut, whole)
    }
    assert steps[cut] == steps[whole]
    assert list((tmp_path / "runs" / "tiny").iterdir()) == [cut]


def test_going_on_from_a_run_that_ended_well_leaves_its_folder_as_it_was(tmp_path):
    assert fit() == 0
    first = tmp_path / "runs" / "tiny" / "version_0"
    before = (first / "summary.json").read_bytes()
    assert fit("--trainer.max_epochs=3", f"--ckpt_path={first / 'checkpoints' / 'last.ckpt'}") == 0
    assert (first / "summary.json").read_bytes() == before
    further = read_summary(tmp_path / "runs" / "tiny" / "version_1")
    assert (further["epochs_trained"], further["best_epoch"]) == (3, 2)
