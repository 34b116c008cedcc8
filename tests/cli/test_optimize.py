"""`--optimize`: the same predictions and metrics, by the optimised network."""

import re
from pathlib import Path

import pytest

from shvit_pl.cli import main


def predicted(checkpoint, *flags):
    assert main(["predict", f"--ckpt_path={checkpoint}", "--data.batch_size=50", *flags]) == 0
    return Path("predictions.csv").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("weights", [(), ("--model.use_ema=true",)], ids=["raw", "averaged"])
def test_predictions_stay(run, weights, capsys):
    checkpoint = run / "checkpoints" / "best.ckpt"
    assert predicted(checkpoint, "--optimize", *weights) == predicted(checkpoint, *weights)
    assert capsys.readouterr().out.count("optimising for batches of 50x3x") == 1


@pytest.mark.slow
def test_metrics_stay(run, capsys):
    def metrics(*flags):
        assert main(["validate", f"--ckpt_path={run / 'checkpoints' / 'best.ckpt'}", "--plain=true", *flags]) == 0
        return re.findall(r"val/acc\w+\W+([\d.]+)", capsys.readouterr().out)

    expected = metrics()
    assert len(expected) == 4
    assert metrics("--optimize") == expected


def test_a_fit_compiles_by_another_flag(capsys):
    assert main(["fit", "--optimize"]) == 2
    assert "--model.compile" in capsys.readouterr().err
