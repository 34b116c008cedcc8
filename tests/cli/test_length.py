"""Runs whose length is not whole epochs, and what they print and draw."""

import csv
import re

import pytest

from shvit_pl.runs.folder import read_summary
from tests.cli.runs import fit


def test_a_run_without_a_validation_names_its_last_checkpoint(capsys):
    assert fit("--trainer.limit_val_batches=0", "--trainer.max_epochs=1") == 0
    assert "--ckpt_path runs/tiny/version_0/checkpoints/last.ckpt" in capsys.readouterr().out


@pytest.mark.parametrize("accumulated", [1, 2])
def test_a_run_of_so_many_steps_is_validated_at_its_end_within_an_epoch(accumulated, tmp_path, capsys):
    steps = ["--trainer.max_epochs=-1", f"--trainer.max_steps={6 // accumulated}"]
    assert fit(*steps, f"--trainer.accumulate_grad_batches={accumulated}") == 0
    printed = capsys.readouterr().out
    summary = read_summary(tmp_path / "runs" / "tiny" / "version_0")
    assert summary["steps_trained"] == 6 // accumulated
    assert summary["best_checkpoint"] == "checkpoints/best.ckpt"
    assert "epoch 1.5 " in printed
    assert "-1" not in printed.replace("e-1", "")


def test_validations_within_an_epoch_have_their_own_place_on_the_axis(tmp_path, capsys):
    assert fit("--trainer.val_check_interval=0.5") == 0
    assert re.findall(r"^epoch +(\S+)", capsys.readouterr().out, re.MULTILINE) == ["0.5/2", "1/2", "1.5/2", "2/2"]
    rows = list(csv.DictReader((tmp_path / "runs" / "tiny" / "version_0" / "metrics.csv").open()))
    assert len([row for row in rows if row["val/acc1"]]) == 4
