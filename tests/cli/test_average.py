"""The moving average from the command line: chosen by, evaluated, predicted with, started from."""

import csv

import pytest
import torch

from shvit_pl import HFImageDataModule, load_weights
from shvit_pl.cli import main
from shvit_pl.models import create_model
from shvit_pl.runs.folder import read_summary
from tests.cli.runs import fit

AVERAGED = ["--model.ema.decay=0.9", "--monitor=val/acc1_ema", "--trainer.max_epochs=4"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    assert (
        fit(
            *AVERAGED,
            "--trainer.limit_train_batches=10",
            "--trainer.limit_val_batches=10",
            f"--trainer.default_root_dir={root}",
        )
        == 0
    )
    return root / "tiny" / "version_0"


def state_of(run, prefix):
    state = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    return {key.removeprefix(prefix): tensor for key, tensor in state.items() if key.startswith(prefix)}


def test_the_best_checkpoint_is_that_of_the_monitored_metric(run):
    rows = [row for row in csv.DictReader((run / "metrics.csv").open()) if row["val/acc1_ema"]]
    averaged = [float(row["val/acc1_ema"]) for row in rows]
    summary = read_summary(run)
    assert summary["monitor"] == "val/acc1_ema"
    assert summary["metrics"]["val/acc1_ema"] == pytest.approx(max(averaged))
    best = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)
    assert best["epoch"] == averaged.index(max(averaged)) == summary["best_epoch"]


def test_validate_reports_both(run, capsys):
    assert main(["validate", f"--ckpt_path={run / 'checkpoints' / 'best.ckpt'}", "--trainer.limit_val_batches=10"]) == 0
    printed = capsys.readouterr().out
    for name, value in read_summary(run)["metrics"].items():
        assert name in printed
        assert str(value)[:6] in printed


def test_prediction_is_with_the_average_where_it_is_asked_for(run, tmp_path):
    for flags in (["--output=weights.csv"], ["--output=average.csv", "--model.use_ema=true"]):
        assert main(["predict", f"--ckpt_path={run / 'checkpoints' / 'best.ckpt'}", *flags]) == 0
    network = create_model("tiny", num_classes=10).eval()
    assert (tmp_path / "weights.csv").read_text() != (tmp_path / "average.csv").read_text()
    rows = list(csv.DictReader((tmp_path / "average.csv").open()))
    load_weights(network, run / "checkpoints" / "best.ckpt", averaged=True)
    data = HFImageDataModule(image_size=64, crop_pct=1.0, batch_size=16, num_workers=0)
    data.setup("predict")
    batch = data.on_after_batch_transfer(next(iter(data.predict_dataloader())), 0)
    with torch.no_grad():
        probabilities = network(batch["image"]).softmax(dim=-1).max(dim=-1).values
    assert [float(row["probability"]) for row in rows[:16]] == pytest.approx(probabilities.tolist(), abs=2e-4)


@pytest.mark.parametrize(("flag", "prefix"), [("false", "model."), ("true", "ema.module.")])
def test_a_run_starts_from_the_weights_or_from_their_average(run, flag, prefix, tmp_path):
    start = [f"--model.init_from={run / 'checkpoints' / 'best.ckpt'}", f"--model.use_ema={flag}"]
    still = ["--model.optim.lr=1e-30", "--model.optim.warmup_lr=0", "--model.optim.min_lr=0", "--model.freeze_bn=true"]
    assert fit(*start, *still, "--trainer.max_epochs=1", "--trainer.default_root_dir=next") == 0
    after = state_of(tmp_path / "next" / "tiny" / "version_0", "model.")
    for key, expected in state_of(run, prefix).items():
        assert torch.equal(after[key], expected), key


def test_a_checkpoint_without_an_average_says_so(tmp_path, capsys):
    assert fit("--trainer.max_epochs=1") == 0
    checkpoint = tmp_path / "runs" / "tiny" / "version_0" / "checkpoints" / "best.ckpt"
    assert main(["predict", f"--ckpt_path={checkpoint}", "--model.use_ema=true"]) == 2
    assert "model.use_ema true: the checkpoint has no averaged weights" in capsys.readouterr().err
    assert fit(f"--model.init_from={checkpoint}", "--model.use_ema=true") == 2
    assert "no averaged weights" in capsys.readouterr().err
