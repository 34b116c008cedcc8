"""`--optimize`: the same predictions and metrics, by the optimized network."""

import csv
import re
from pathlib import Path

import pytest

from shvit_pl.cli import main

BATCH = "--data.batch_size=50"  # the same for all, so that what is compiled once is found again


def predicted(checkpoint, *flags):
    assert main(["predict", f"--ckpt_path={checkpoint}", BATCH, *flags]) == 0
    with Path("predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [(row["file"], row["label"]) for row in rows], [float(row["probability"]) for row in rows]


@pytest.mark.slow
def test_predictions_stay(run, capsys):
    weights = "--model.use_ema=true"
    checkpoint = run / "checkpoints" / "best.ckpt"
    labels, probabilities = predicted(checkpoint, "--optimize", weights)
    expected_labels, expected = predicted(checkpoint, weights)
    assert labels == expected_labels
    assert probabilities == pytest.approx(expected, abs=2e-4)  # they are written with four decimals
    assert capsys.readouterr().out.count("optimizing for batches of 50x3x") == 1


@pytest.mark.slow
def test_metrics_stay(run, capsys):
    def metrics(*flags):
        checkpoint = run / "checkpoints" / "best.ckpt"
        assert main(["validate", f"--ckpt_path={checkpoint}", "--plain=true", BATCH, *flags]) == 0
        return re.findall(r"val/acc\w+\W+([\d.]+)", capsys.readouterr().out)

    expected = metrics()
    assert len(expected) == 4
    assert metrics("--optimize") == expected


def test_a_fit_compiles_by_another_flag(capsys):
    assert main(["fit", "--optimize"]) == 2
    assert "--model.compile" in capsys.readouterr().err
