"""The learning rate that a run logs is the schedule's, by step and by epoch, also after a resume."""

import csv

import pytest

from shvit_pl.modules.config import OptimConfig
from shvit_pl.modules.optim import make_schedule
from tests.cli.runs import fit, stop_at

EPOCHS, BATCHES = 6, 3
FLAGS = [
    f"--trainer.max_epochs={EPOCHS}",
    f"--trainer.limit_train_batches={BATCHES}",
    "--trainer.limit_val_batches=1",
    "--trainer.log_every_n_steps=1",
    "--checkpoint_every_n_steps=1",
]


@pytest.mark.parametrize("interval", ["step", "epoch"])
@pytest.mark.parametrize("interrupted", [False, True])
def test_the_rate_in_force_is_the_schedules(interval, interrupted, tmp_path, monkeypatch):
    flags = [*FLAGS, f"--model.optim.interval={interval}"]
    if interrupted:
        with monkeypatch.context() as patch:
            stop_at(patch, epoch=3, batch=1)
            fit(*flags)
    assert fit(*flags, "--ckpt_path=last") == 0
    rows = csv.DictReader((tmp_path / "runs" / "tiny" / "version_0" / "metrics.csv").open())
    logged = [float(row["train/lr"]) for row in rows if row["train/lr"]]
    schedule = make_schedule(OptimConfig(lr=8e-3, warmup_epochs=1, interval=interval), 16, EPOCHS * BATCHES, EPOCHS)
    counts = [step if interval == "step" else step // BATCHES for step in range(EPOCHS * BATCHES)]
    assert logged == pytest.approx([schedule.peak * schedule(count) for count in counts])
