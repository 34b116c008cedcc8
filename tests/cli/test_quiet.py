"""No warning that a user can't act on: a run writes nothing to stderr."""

import os
import subprocess
import sys

import pytest

from shvit_pl.cli import main
from tests.cli.runs import QUICK, fit

RUNS = {
    "plain": [],
    "the whole recipe": [
        "--model.ema.decay=0.9",
        "--model.mix.mixup=0.8",
        "--model.mix.cutmix=1.0",
        "--model.optim.agc=0.02",
        "--trainer.precision=bf16-mixed",
        "--data.auto_augment=rand-m9-mstd0.5-inc1",
        "--data.erasing=0.25",
        "--data.repeats=3",
        "--data.num_workers=1",
        "--trainer.accumulate_grad_batches=2",
        "--monitor=val/acc1_ema",
    ],
}


@pytest.mark.slow
@pytest.mark.parametrize("flags", RUNS.values(), ids=RUNS)
def test_a_run_writes_nothing_to_stderr(flags, tmp_path):
    """In a process of its own, with an empty cache: the dataset is prepared, too."""
    command = [sys.executable, "-m", "shvit_pl.cli", "fit", *QUICK, *flags]
    environment = {**os.environ, "HF_HOME": str(tmp_path / "cache")}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    "flags",
    [
        ["--trainer.limit_val_batches=0", "--trainer.precision=bf16-true"],
        ["--trainer.enable_checkpointing=false", "--trainer.check_val_every_n_epoch=2"],
        ["--trainer.logger=false", "--trainer.max_steps=3"],
        ["--trainer.max_epochs=-1", "--trainer.max_steps=5", "--trainer.limit_val_batches=1"],
    ],
    ids=lambda value: value[0],
)
def test_what_is_unusual_but_no_mistake_goes_silently_too(flags, capfd):
    assert fit("--trainer.max_epochs=1", *flags) == 0
    assert capfd.readouterr().err == ""


def test_validation_that_is_switched_off_leaves_no_best_checkpoint(tmp_path):
    assert fit("--trainer.limit_val_batches=0") == 0
    assert [path.name for path in tmp_path.rglob("*.ckpt")] == ["last.ckpt"]


def test_resuming_and_measuring_are_silent_too(capfd, tmp_path):
    assert fit("--trainer.max_epochs=1") == 0
    last = f"--ckpt_path={tmp_path / 'runs' / 'tiny' / 'version_0' / 'checkpoints' / 'last.ckpt'}"
    assert fit(last, "--allow_changes=true") == 0
    for command, stage in (("validate", "val"), ("test", "test"), ("predict", "predict")):
        assert main([command, last, f"--trainer.limit_{stage}_batches=1"]) == 0
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("command", ["fit", "validate", "test", "predict", "designs"])
def test_every_command_has_help(command, capfd):
    assert main([command, "--help"]) == 0
    printed = capfd.readouterr()
    assert printed.out.startswith("usage: shvit-pl")
    assert f" {command} " in printed.out.splitlines()[0]
    assert printed.err == ""


def test_a_reader_that_leaves_is_no_error():
    """As in `shvit-pl designs | head -1`."""
    command = f"{sys.executable} -m shvit_pl.cli designs | head -1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert done.stdout.startswith("named designs")
    assert done.stderr == ""
