"""What a run announces, scales its rate by and counts is what Lightning does, however batches are accumulated."""

import json

import pytest

from shvit_pl.modules.step_counts import StepCounts
from shvit_pl.runs.folder import read_summary
from tests.cli.runs import fit, metrics, only_run

RATE = 0.008  # of the config, for 512 images


def scheduler(*pairs):
    part = {"class_path": "GradientAccumulationScheduler", "init_args": {"scheduling": dict(pairs)}}
    return f"--trainer.callbacks={json.dumps([part])}"


AVERAGING = '--trainer.callbacks=[{"class_path": "StochasticWeightAveraging", "init_args": {"swa_lrs": 0.001}}]'
CASES = {
    "more batches than there are": (["--trainer.accumulate_grad_batches=8"], 2, "64", 2),
    "the last step is smaller": (["--trainer.accumulate_grad_batches=3", "--trainer.max_steps=3"], 3, "16 to 48", 2),
    "more later": ([scheduler((0, 1), (1, 2))], 6, "16 to 32", 2),
    "fewer later": ([scheduler((0, 8), (1, 2))], 3, "32 to 64", 2),
    "more later, by steps": ([scheduler((1, 4)), "--trainer.max_steps=4"], 4, "16", 1),
    "averaging": ([AVERAGING], 8, "16", 3),
}


RARER = ("more later", "more later, by steps")


@pytest.mark.parametrize("case", [pytest.param(c, marks=pytest.mark.slow) if c in RARER else c for c in CASES])
def test_steps_images_and_rate_are_lightnings(case, tmp_path, capsys):
    """Four batches of 16 images an epoch, two epochs."""
    flags, steps, images, epochs = CASES[case]
    assert fit(*flags, "--plain=true", "--trainer.log_every_n_steps=1", "--trainer.limit_val_batches=1") == 0
    printed, summary = capsys.readouterr().out, read_summary(only_run(tmp_path))
    most = int(images.split()[-1])
    assert f"{steps} step{'s' * (steps > 1)} of {images} images" in printed
    assert (summary["steps"], summary["steps_trained"], summary["global_batch"]) == (steps, steps, most)
    assert summary["peak_lr"] == pytest.approx(RATE * most / 512)
    assert summary["epochs_trained"] == epochs
    assert f"epoch   {epochs}/{summary['epochs']}  " in printed or f"/{summary['epochs']}  " in printed
    assert 0 < summary["best_epoch"] <= summary["epochs"]
    assert f"best epoch: {summary['best_epoch']:g}/{summary['epochs']}" in printed


def test_averaged_weights_of_a_run_that_ends_early_are_said_to_be_lost(capfd):
    stop = {"monitor": "val/loss", "mode": "max", "stopping_threshold": 0.0}  # after the first epoch
    parts = [{"class_path": "StochasticWeightAveraging", "init_args": {"swa_lrs": 0.001}}]
    parts.append({"class_path": "EarlyStopping", "init_args": stop})
    assert fit(f"--trainer.callbacks={json.dumps(parts)}", "--trainer.limit_val_batches=1") == 0
    printed = capfd.readouterr()
    assert "note: the run ended before the epoch that measures the averaged weights" in printed.out
    assert "object at 0x" not in printed.err


@pytest.mark.slow
def test_the_rate_follows_the_images_of_a_step(tmp_path):
    flags = ["--trainer.log_every_n_steps=1", "--model.optim.warmup_epochs=0"]
    assert fit(*flags, scheduler((0, 1), (1, 2)), "--run_name=later") == 0
    assert fit(*flags, "--trainer.accumulate_grad_batches=2", "--trainer.max_epochs=3", "--run_name=whole") == 0
    later, whole = ([float(rate) for rate in metrics(tmp_path / "runs" / name / "version_0", "train/lr")]
                    for name in ("later", "whole"))  # fmt: skip
    assert len(later) == len(whole) == 6
    assert later == pytest.approx([rate / 2 for rate in whole[:4]] + whole[4:])


@pytest.mark.parametrize("batches", [4, 7])
@pytest.mark.parametrize("scheduling", [{0: 1}, {0: 3}, {0: 2, 1: 1, 3: 5}, {0: 9, 2: 2}])
def test_counts_are_those_of_a_loop(batches, scheduling):
    counts = StepCounts(batches, lambda epoch: scheduling[max(first for first in scheduling if first <= epoch)])
    steps = []  # the step of each batch
    for epoch in range(5):
        for batch in range(batches):
            begins = batch % counts.accumulated(epoch) == 0
            steps.append((steps[-1] if steps else -1) + begins)
        assert counts.steps(epoch + 1) == steps[-1] + 1
    assert [counts.step_of(batch) for batch in range(len(steps))] == steps
    assert [counts.batches_of(step + 1) for step in range(steps[-1] + 1)] == [
        sum(each <= step for each in steps) for step in range(steps[-1] + 1)
    ]
    for step in range(steps[-1] + 1):
        assert counts.least(step + 1) == min(steps.count(each) for each in range(step + 1))
