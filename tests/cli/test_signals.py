"""A run that gets a signal: SIGINT and SIGTERM end it, SLURM's SIGUSR1 requeues it, SIGKILL costs it a few steps."""

import multiprocessing
import os
import random
import signal
import sys
import time

import pytest

from shvit_pl.cli import main
from shvit_pl.runs.folder import read_summary
from tests.cli.runs import EVERYTHING, MASKS, QUICK, SCENES, assert_same, content, fit, metrics, weights

pytestmark = pytest.mark.slow

OFTEN = "--checkpoint_every_n_steps=1"
FORKSERVER = multiprocessing.get_context("forkserver")  # its processes have imported everything already
FORKSERVER.set_forkserver_preload(["shvit_pl.fit.lightning_cli"])


def start(printed, *flags, **environment):
    """A run in a process of its own, which prints into this file."""
    process = FORKSERVER.Process(target=run_printing, args=(printed, flags, environment))
    process.start()
    return process


def run_printing(printed, flags, environment):
    multiprocessing.set_start_method("fork", force=True)  # of its workers, as in the command; they end with it
    os.environ.update(environment)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # as at a terminal: jobs in the background ignore it
    for stream in (1, 2):
        os.dup2(os.open(printed, os.O_CREAT | os.O_WRONLY | os.O_APPEND), stream)
    sys.exit(main(["fit", *flags]))


def wait_until(condition, process, printed):
    while not condition():
        time.sleep(0.05)
        assert process.is_alive(), printed.read_text()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_run_ends_with_its_own_exit_code_and_says_how_to_go_on(number, code, tmp_path):
    printed = tmp_path / "printed"
    process = start(printed, *QUICK, OFTEN, "--trainer.max_epochs=200", "--data.num_workers=1")
    wait_until(lambda: list(tmp_path.rglob("last.ckpt")), process, printed)
    os.kill(process.pid, number)
    process.join(60)
    assert process.exitcode == code
    assert "Detected" not in printed.read_text()
    assert "the same command with --ckpt_path" in printed.read_text()


JOB = {"SLURM_JOB_ID": "7", "SLURM_JOB_NAME": "train", "SLURM_NTASKS": "1", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}


def test_a_job_that_slurm_requeues_goes_on_exactly(tmp_path):
    """With a `scontrol` that notes what it is asked: there is no SLURM here."""
    scontrol, run, printed = tmp_path / "bin" / "scontrol", tmp_path / "runs" / "tiny" / "version_0", tmp_path / "out"
    asked = scontrol.with_name("asked")
    scontrol.parent.mkdir()
    scontrol.write_text(f'#!/bin/sh\necho "$@" >> {asked}\n')
    scontrol.chmod(0o755)
    environment = {**JOB, "PATH": f"{scontrol.parent}:{os.environ['PATH']}"}
    flags = [*EVERYTHING, "--trainer.limit_train_batches=15", "--trainer.log_every_n_steps=1"]
    job = start(printed, *QUICK, *flags, "--ckpt_path=last", **environment)
    wait_until(lambda: (run / "metrics.csv").exists() and len(metrics(run, "step")) >= 3, job, printed)
    os.kill(job.pid, signal.SIGUSR1)
    wait_until(asked.exists, job, printed)
    steps = len(metrics(run, "step"))
    wait_until(lambda: len(metrics(run, "step")) >= steps + 2, job, printed)  # the scheduler leaves it some time
    job.kill()
    job.join()
    assert asked.read_text() == "requeue 7\n"
    assert not (run / "checkpoints" / "last.ckpt").exists()  # the signal came within the first epoch
    printed.unlink()
    start(printed, *QUICK, *flags, "--ckpt_path=last", **environment).join(240)
    assert printed.read_text().count("result") == 1
    assert fit(*flags, "--trainer.default_root_dir=whole") == 0
    whole = tmp_path / "whole" / "tiny" / "version_0"
    assert_same(weights(whole), weights(run))
    assert metrics(whole, "step") == metrics(run, "step")


LONGER = ["--data.num_workers=0", "--trainer.max_epochs=3", "--trainer.limit_train_batches=8", OFTEN]
LONGER += ["--trainer.limit_val_batches=1", "--trainer.enable_progress_bar=false"]
DETECTOR = [*SCENES, "--data.scenes=32", "--data.flip=0.5", "--data.scales=[96, 128]", "--model.ema.decay=0.5"]
KILLS = 3


def kill_while_it_writes(process, last, after, delay):
    """Let a run make `after` more checkpoints, and kill it `delay` seconds later; False when it ended before."""
    seen = set()
    while len(seen) <= after and process.is_alive():
        if last.exists():
            seen.add(last.stat().st_mtime_ns)
        time.sleep(0.001)
    time.sleep(delay)
    process.kill()
    process.join()
    return process.exitcode != 0


@pytest.mark.parametrize(
    "flags",
    [
        pytest.param([*QUICK, *EVERYTHING], id="classification"),
        pytest.param(DETECTOR, id="retinanet"),
        pytest.param([*DETECTOR, *MASKS], id="mask_rcnn"),
    ],
)
def test_a_run_that_is_killed_again_and_again_ends_exactly(flags, tmp_path):
    flags = [*flags, *LONGER]
    assert main(["fit", *flags, "--trainer.default_root_dir=whole"]) == 0
    draw, folder, steps = random.Random(0), tmp_path / "runs" / "tiny" / "version_0", []
    for _ in range(KILLS):
        process, last = start(tmp_path / "printed", *flags, "--ckpt_path=last"), folder / "checkpoints" / "last.ckpt"
        assert kill_while_it_writes(process, last, after=draw.randint(1, 3), delay=draw.uniform(0, 0.05))
        steps.append(content(folder)["global_step"])
    assert steps == sorted(steps)
    assert steps[0] < steps[-1] < 24
    (folder / "checkpoints" / ".best.ckpt.partial").write_bytes(b"of a process that was killed")
    assert main(["fit", *flags, "--ckpt_path=last"]) == 0
    assert [path.name for path in folder.parent.iterdir()] == ["version_0"]
    assert list(folder.rglob(".*")) == []
    whole = tmp_path / "whole" / "tiny" / "version_0"
    assert_same(weights(whole), weights(folder))
    assert read_summary(folder)["metrics"] == read_summary(whole)["metrics"]
