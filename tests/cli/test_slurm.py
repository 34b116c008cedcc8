"""SLURM's signal before the time limit: a checkpoint is written, the job requeued, and the same command goes on."""

import os
import signal
import subprocess
import sys
import time

import pytest

from tests.cli.runs import EVERYTHING, QUICK, assert_same, fit, metrics, weights

FLAGS = [*EVERYTHING, "--trainer.limit_train_batches=25", "--trainer.log_every_n_steps=1"]
JOB = {"SLURM_JOB_ID": "7", "SLURM_JOB_NAME": "train", "SLURM_NTASKS": "1", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}


def scheduler(folder):
    """A `scontrol` that notes what it is asked: there is no SLURM here."""
    folder.mkdir()
    (folder / "scontrol").write_text(f'#!/bin/sh\necho "$@" >> {folder}/asked\n')
    (folder / "scontrol").chmod(0o755)
    return {**os.environ, **JOB, "PATH": f"{folder}:{os.environ['PATH']}"}


def start(environment):
    flags = [*QUICK, *FLAGS, "--trainer.default_root_dir=runs", "--ckpt_path=last"]
    command = [sys.executable, "-m", "shvit_pl.cli", "fit", *flags]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@pytest.mark.slow
def test_a_requeued_job_goes_on_exactly(tmp_path):
    environment = scheduler(tmp_path / "bin")
    job, run = start(environment), tmp_path / "runs" / "tiny" / "version_0"
    while not (run / "metrics.csv").exists() or len(metrics(run, "step")) < 5:
        time.sleep(0.05)
        assert job.poll() is None, job.stdout.read()
    job.send_signal(signal.SIGUSR1)
    while not (tmp_path / "bin" / "asked").exists():
        time.sleep(0.05)
        assert job.poll() is None, job.stdout.read()
    steps = len(metrics(run, "step"))
    while len(metrics(run, "step")) < steps + 2:  # the scheduler leaves the job some time
        time.sleep(0.05)
    job.kill()
    job.wait()
    assert (tmp_path / "bin" / "asked").read_text() == "requeue 7\n"
    assert not (run / "checkpoints" / "last.ckpt").exists()  # the signal came within the first epoch
    again = start(environment)
    assert again.communicate(timeout=240)[0].count("result") == 1
    assert fit(*FLAGS, "--trainer.default_root_dir=whole") == 0
    whole = tmp_path / "whole" / "tiny" / "version_0"
    assert_same(weights(whole), weights(run))
    assert metrics(whole, "step") == metrics(run, "step")
