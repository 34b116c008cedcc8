"""Training in two processes (gloo, on the CPU)."""

import os
import subprocess
import sys

import pytest

from tests.cli.runs import QUICK

TWO = ["--trainer.accelerator=cpu", "--trainer.devices=2", "--trainer.strategy=ddp"]
# plain steps, so that rounding stays rounding: Adam divides by gradients that are nearly zero
SGD = ["--model.optim.name=sgd", "--model.optim.lr=0.5", "--data.validation_fraction=0.203", "--trainer.max_epochs=1"]


needs_two_cores = pytest.mark.skipif(
    hasattr(os, "sched_getaffinity") and len(os.sched_getaffinity(0)) < 2, reason="a process per core, and there is one"
)


def fit_in_two_processes(root, *flags):
    command = [sys.executable, "-m", "shvit_pl.cli", "fit", *QUICK, *TWO, f"--trainer.default_root_dir={root}", *flags]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert "error" not in done.stderr.lower()
    return root / "tiny" / "version_0"


def difference(first, second, but="no such key"):
    """The largest difference of two runs' weights."""
    compared = [key for key in first if first[key].is_floating_point() and but not in key]
    return max((first[key] - second[key]).abs().max().item() for key in compared)
