"""Runs of unusual lengths, precisions and limits: what they print and leave; none writes a warning to stderr."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from shvit_pl.cli import main
from shvit_pl.runs.folder import read_summary
from tests.cli.runs import EVERYTHING, QUICK, fit, metrics, only_run, weights

WHOLE_RECIPE = [*EVERYTHING, "--trainer.precision=bf16-mixed", "--trainer.accumulate_grad_batches=2"]


@pytest.mark.slow
def test_a_run_by_the_whole_recipe_writes_nothing_to_stderr(tmp_path):
    """In a process of its own, with an empty cache: the dataset is prepared, too."""
    command = [sys.executable, "-m", "shvit_pl.cli", "fit", *QUICK, *WHOLE_RECIPE, "--monitor=val/acc1_ema"]
    environment = {**os.environ, "HF_HOME": str(tmp_path / "cache")}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_runs_without_checkpoints_validation_or_loggers_are_silent_also_on_a_cluster(capfd, tmp_path, monkeypatch):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "srun").symlink_to("/bin/true")  # as where one logs in
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    few = ["--trainer.limit_train_batches=2", "--trainer.limit_val_batches=1"]
    no_checkpoints = ["--trainer.enable_checkpointing=false", "--trainer.check_val_every_n_epoch=2"]
    assert fit(*few, *no_checkpoints, "--trainer.max_epochs=1") == 0
    bare = ["--trainer.logger=false", "--trainer.enable_checkpointing=false"]
    assert fit(*few, *bare, "--trainer.max_steps=3", "--run_name=bare") == 0
    assert not (tmp_path / "runs" / "bare").exists()
    assert fit(*few, "--trainer.limit_val_batches=0", "--trainer.precision=bf16-true", "--run_name=unseen") == 0
    printed = capfd.readouterr()
    assert "--ckpt_path runs/unseen/version_0/checkpoints/last.ckpt" in printed.out
    assert [path.name for path in (tmp_path / "runs" / "unseen").rglob("*.ckpt")] == ["last.ckpt"]
    assert printed.err == ""


def test_resuming_measuring_and_help_are_silent_too(capfd, short_run):
    last = f"--ckpt_path={shutil.copy(short_run / 'checkpoints' / 'last.ckpt', 'last.ckpt')}"
    assert fit(last, "--allow_changes=true", "--extend_to=3", "--trainer.limit_train_batches=1") == 0
    for command, stage in (("validate", "val"), ("predict", "predict")):
        assert main([command, last, f"--trainer.limit_{stage}_batches=1"]) == 0
    for command in ("fit", "validate", "test", "predict", "designs"):
        capfd.readouterr()
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


def test_a_run_of_so_many_steps_is_validated_at_its_end_within_an_epoch(tmp_path, capsys):
    """Three steps of two batches each, of four per epoch."""
    steps = ["--trainer.max_epochs=-1", "--trainer.max_steps=3", "--trainer.limit_val_batches=1"]
    assert fit(*steps, "--trainer.accumulate_grad_batches=2") == 0
    printed, summary = capsys.readouterr(), read_summary(only_run(tmp_path))
    assert summary["steps_trained"] == 3
    assert summary["best_checkpoint"] == "checkpoints/best.ckpt"
    assert "epoch 1.5 " in printed.out
    assert "-1" not in printed.out.replace("e-1", "")
    assert printed.err == ""


def test_loggers_and_a_checkpoint_of_the_users_own_are_added_to_ours(tmp_path):
    Path("own.yaml").write_text(
        "trainer:\n"
        "  logger: {class_path: lightning.pytorch.loggers.CSVLogger, init_args: {save_dir: own}}\n"
        "  callbacks:\n"
        "  - {class_path: ModelCheckpoint, init_args: {monitor: val/loss, dirpath: theirs, filename: mine}}\n"
    )
    assert fit("--config=own.yaml", "--trainer.max_steps=3", "--trainer.limit_val_batches=1") == 0
    folder = only_run(tmp_path)
    assert read_summary(folder)["best_checkpoint"] == "checkpoints/best.ckpt"
    assert (folder / "figures" / "curves.png").is_file()
    assert list(Path("own").rglob("metrics.csv"))
    assert Path("theirs/mine.ckpt").is_file()


def test_validations_within_an_epoch_have_their_own_place_on_the_axis(tmp_path, capsys):
    assert fit("--trainer.val_check_interval=0.5", "--trainer.limit_val_batches=1") == 0
    assert re.findall(r"^epoch +(\S+)", capsys.readouterr().out, re.MULTILINE) == ["0.5/2", "1/2", "1.5/2", "2/2"]
    assert len(metrics(only_run(tmp_path), "val/acc1")) == 4


def test_bf16_mixed_keeps_weights_and_average_in_32_bits(tmp_path):
    few = ["--trainer.max_steps=2", "--trainer.limit_val_batches=1"]
    assert fit("--trainer.precision=bf16-mixed", "--model.ema.decay=0.9", "--model.mix.mixup=0.8", *few) == 0
    assert read_summary(only_run(tmp_path))["precision"] == "bf16-mixed"
    state = weights(only_run(tmp_path), "best")
    assert {tensor.dtype for tensor in state.values() if tensor.is_floating_point()} == {torch.float32}
