"""A run that gets a signal: SIGINT and SIGTERM end it, SLURM's SIGUSR1 requeues it, SIGKILL costs it a few steps."""

import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time

import pytest

from shvit_pl.cli import main
from shvit_pl.runs.folder import read_summary
from tests.cli.runs import EVERYTHING, QUICK, assert_same, content, fit, metrics, weights

pytestmark = pytest.mark.slow


def start(*flags, **options):
    """A run in a process of its own, and its folder."""
    command = [sys.executable, "-m", "shvit_pl.cli", "fit", *QUICK, *flags]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)


def wait_until(condition, process):
    while not condition():
        time.sleep(0.05)
        assert process.poll() is None, process.stdout.read()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_run_ends_with_its_own_exit_code_and_says_how_to_go_on(number, code, tmp_path):
    often = ["--checkpoint_every_n_steps=1", "--trainer.max_epochs=200", "--data.num_workers=1"]
    as_if_at_a_terminal = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}  # jobs ignore it
    process = start(*often, **as_if_at_a_terminal)
    wait_until(lambda: list(tmp_path.rglob("last.ckpt")), process)
    process.send_signal(number)
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == code
    assert "Detected" not in printed
    assert "goes on with --ckpt_path" in printed


JOB = {"SLURM_JOB_ID": "7", "SLURM_JOB_NAME": "train", "SLURM_NTASKS": "1", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}
SCONTROL = """#!/bin/sh
echo "$@" >> $(dirname $0)/asked
"""


def test_a_job_that_slurm_requeues_goes_on_exactly(tmp_path):
    """With a `scontrol` that notes what it is asked: there is no SLURM here."""
    asked, run = tmp_path / "bin" / "asked", tmp_path / "runs" / "tiny" / "version_0"
    asked.parent.mkdir()
    (asked.parent / "scontrol").write_text(SCONTROL)
    (asked.parent / "scontrol").chmod(0o755)
    environment = {**os.environ, **JOB, "PATH": f"{asked.parent}:{os.environ['PATH']}"}
    flags = [*EVERYTHING, "--trainer.limit_train_batches=25", "--trainer.log_every_n_steps=1"]
    job = start(*flags, "--ckpt_path=last", env=environment)
    wait_until(lambda: (run / "metrics.csv").exists() and len(metrics(run, "step")) >= 5, job)
    job.send_signal(signal.SIGUSR1)
    wait_until(asked.exists, job)
    steps = len(metrics(run, "step"))
    wait_until(lambda: len(metrics(run, "step")) >= steps + 2, job)  # the scheduler leaves the job some time
    job.kill()
    job.wait()
    assert asked.read_text() == "requeue 7\n"
    assert not (run / "checkpoints" / "last.ckpt").exists()  # the signal came within the first epoch
    again = start(*flags, "--ckpt_path=last", env=environment)
    assert again.communicate(timeout=240)[0].count("result") == 1
    assert fit(*flags, "--trainer.default_root_dir=whole") == 0
    whole = tmp_path / "whole" / "tiny" / "version_0"
    assert_same(weights(whole), weights(run))
    assert metrics(whole, "step") == metrics(run, "step")


OFTEN = [*QUICK, *EVERYTHING, "--data.num_workers=0", "--trainer.max_epochs=3", "--trainer.limit_train_batches=8"]
OFTEN += ["--trainer.limit_val_batches=1", "--checkpoint_every_n_steps=1", "--trainer.enable_progress_bar=false"]
KILLS = 3


def fork(root):
    """The run, or its continuation, in a process that has imported everything already."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["shvit_pl.fit.lightning_cli"])
    flags = [*OFTEN, "--ckpt_path=last", f"--trainer.default_root_dir={root}"]
    process = context.Process(target=main, args=(["fit", *flags],))
    process.start()
    return process


def kill_while_it_writes(root, after, delay):
    """Let a run make `after` more checkpoints, and kill it `delay` seconds later; False when it ended before."""
    process, seen, last = fork(root), set(), root / "tiny" / "version_0" / "checkpoints" / "last.ckpt"
    while len(seen) <= after and process.is_alive():
        if last.exists():
            seen.add(last.stat().st_mtime_ns)
        time.sleep(0.001)
    time.sleep(delay)
    process.kill()
    process.join()
    return process.exitcode != 0


def test_a_run_that_is_killed_again_and_again_ends_exactly(tmp_path):
    assert main(["fit", *OFTEN, f"--trainer.default_root_dir={tmp_path / 'whole'}"]) == 0
    draw, cut = random.Random(0), tmp_path / "cut"
    folder, steps = cut / "tiny" / "version_0", []
    for _ in range(KILLS):
        assert kill_while_it_writes(cut, after=draw.randint(1, 3), delay=draw.uniform(0, 0.05))
        steps.append(content(folder)["global_step"])
    assert steps == sorted(steps)
    assert steps[0] < steps[-1] < 24
    (folder / "checkpoints" / ".best.ckpt.partial").write_bytes(b"of a process that was killed")
    last = fork(cut)
    last.join()
    assert last.exitcode == 0
    assert [path.name for path in (cut / "tiny").iterdir()] == ["version_0"]
    assert list(folder.rglob(".*")) == []
    whole = tmp_path / "whole" / "tiny" / "version_0"
    assert_same(weights(whole), weights(folder))
    assert read_summary(folder)["metrics"] == read_summary(whole)["metrics"]
