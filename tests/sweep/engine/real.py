"""Sweeps of real fits, by the command as a user gives it."""

import os
import subprocess
import sys

import yaml

from tests.sweep import small
from tests.sweep.engine.launch import ROOT

LONGEST = 900.0  # seconds of a sweep, on a busy machine
EPOCHS, STEPS = 2, 12  # of each epoch
LENGTH = (f"--trainer.max_epochs={EPOCHS}", f"--trainer.limit_train_batches={STEPS}", "--checkpoint_every_n_steps=1")


def real(root, rates, *flags):
    """Start a sweep over learning rates in `root`/rates; returns its process, whose output is beside it."""
    root.mkdir(exist_ok=True)
    (root / "rates.yaml").write_text(yaml.safe_dump({"base": "s1.yaml", "grid": {"model.optim.lr": rates}}))
    command = [sys.executable, "-m", "shvit_pl.cli", "sweep", "--config=rates.yaml", f"--folder={root / 'rates'}"]
    with (root / "rates.out").open("a") as output:
        where = {"cwd": root, "env": {**os.environ, "PYTHONPATH": str(ROOT)}}
        command += [*small.FLAGS, *LENGTH, "--plain", *flags]
        return subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True, **where)
