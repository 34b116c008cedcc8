"""The best epoch: of equal metrics the one with the lower loss; everything in the run folder is of its weights."""

from math import inf, nan
from types import SimpleNamespace

import pytest
import torch
from torchmetrics.classification import MulticlassAccuracy, MulticlassConfusionMatrix

from shvit_pl.callbacks import run_figures
from shvit_pl.callbacks.throughput import Throughput
from shvit_pl.data.config import DataConfig
from shvit_pl.data.datamodule import HFImageDataModule
from shvit_pl.modules.classification import ClassificationModule, CrossEntropy
from shvit_pl.runs.folder import is_improved, read_summary
from shvit_pl.sweep.finish import pick
from shvit_pl.sweep.report.findings import findings_of
from shvit_pl.sweep.report.text import conclusions
from tests.cli.runs import content, fit, only_run, stopped
from tests.conftest import perturb_
from tests.sweep.report.sweeps import sweep, with_runs


@pytest.mark.parametrize(
    ("monitor", "now", "best", "improved"),
    [
        ("val/acc1", {"val/acc1": 0.5, "val/loss": 9.0}, {}, True),
        ("val/acc1", {"val/acc1": 0.6, "val/loss": 9.0}, {"val/acc1": 0.5, "val/loss": 1.0}, True),
        ("val/acc1", {"val/acc1": 0.5, "val/loss": 0.9}, {"val/acc1": 0.5, "val/loss": 1.0}, True),
        ("val/acc1", {"val/acc1": 0.5, "val/loss": 1.1}, {"val/acc1": 0.5, "val/loss": 1.0}, False),
        ("val/acc1", {"val/acc1": 0.5, "val/loss": 1.0}, {"val/acc1": 0.5, "val/loss": 1.0}, False),
        ("val/loss", {"val/loss": 0.9}, {"val/loss": 1.0}, True),
        ("val/loss", {"val/loss": 1.0}, {"val/loss": 1.0}, False),
        ("val/loss", {"val/loss": nan}, {"val/loss": inf}, False),
        ("val/loss", {"val/loss": 1.0}, {"val/loss": nan}, True),
        ("val/acc1", {"val/acc1": 0.1, "val/loss": 1.0}, {"val/acc1": nan, "val/loss": nan}, True),
        ("val/acc1", {"val/acc1": 0.5, "val/loss": nan}, {"val/acc1": 0.5, "val/loss": 1.0}, False),
        (  # the loss of the averaged weights, not the raw ones'
            "val/acc1_ema",
            {"val/acc1_ema": 0.5, "val/loss_ema": 0.9, "val/loss": 2.0},
            {"val/acc1_ema": 0.5, "val/loss_ema": 1.0, "val/loss": 1.0},
            True,
        ),
    ],
)
def test_the_better_of_two_validations(monitor, now, best, improved):
    assert is_improved(now, best, monitor) is improved


def reach(monkeypatch, accuracies, losses):
    """Let a run reach these metrics, epoch by epoch."""
    now = {}

    def begin(self):
        now["epoch"] = self.trainer.current_epoch
        self.reset_metrics()
        perturb_(self.model, seed=now["epoch"])  # predictions that differ
        if self.ema is not None:
            perturb_(self.ema, seed=100 + now["epoch"])

    monkeypatch.setattr(ClassificationModule, "on_validation_start", begin)
    monkeypatch.setattr(MulticlassAccuracy, "compute", lambda self: torch.tensor(accuracies[now["epoch"]]))
    monkeypatch.setattr(CrossEntropy, "compute", lambda self: torch.tensor(losses[now["epoch"]]))


SHORT = ["--trainer.limit_train_batches=2", "--trainer.limit_val_batches=1", "--trainer.max_epochs=4"]


@pytest.mark.slow
def test_of_equal_epochs_the_one_with_the_lower_loss_is_kept_also_by_a_resumed_run(tmp_path, monkeypatch, capsys):
    reach(monkeypatch, [0.5, 0.75, 0.75, 0.75], [3.0, 2.0, 1.0, 2.0])
    stopped(3, 0, *SHORT)
    assert fit(*SHORT, "--ckpt_path=last") == 0
    summary = read_summary(only_run(tmp_path))
    assert content(only_run(tmp_path), "best")["epoch"] == 2  # Lightning counts from 0
    assert summary["best_epoch"] == 3  # as the screen does
    assert summary["metrics"]["val/loss"] == 1.0
    assert "best epoch 3/4" in " ".join(capsys.readouterr().out.split())


@pytest.mark.slow
@pytest.mark.parametrize("monitor", ["val/acc1", "val/acc1_ema"])
def test_the_confusion_matrix_is_of_the_weights_in_the_best_checkpoint(monitor, tmp_path, monkeypatch):
    reach(monkeypatch, [0.25, 0.75, 0.5, 0.5], [1.0] * 4)
    drawn = []
    draw = run_figures.draw_confusion
    monkeypatch.setattr(
        run_figures, "draw_confusion", lambda matrix, names: drawn.append(matrix) or draw(matrix, names)
    )
    flags = ["--model.ema.decay=0.5", f"--monitor={monitor}", "--model.optim.lr=0.5", "--data.batch_size=64"]
    assert fit(*SHORT, *flags) == 0
    best = content(only_run(tmp_path), "best")
    module = ClassificationModule.load_from_checkpoint(
        only_run(tmp_path) / "checkpoints" / "best.ckpt", weights_only=True
    ).eval()
    data = HFImageDataModule(DataConfig(**best["datamodule_hyper_parameters"]))
    data.setup("validate")
    batch = next(iter(data.val_dataloader()))
    batch = data.on_after_batch_transfer(batch, 0)
    expected = {}
    for name, network in (("val/acc1", module.model), ("val/acc1_ema", module.ema.module)):
        with torch.no_grad():
            expected[name] = MulticlassConfusionMatrix(10)(network(batch["image"]), batch["label"])
    assert not torch.equal(expected["val/acc1"], expected["val/acc1_ema"]), "this test needs two weights"
    assert torch.equal(drawn[-1], expected[monitor])
    assert len(drawn) == 2  # after the epochs that were the best so far


def test_rates_are_the_epochs_own():
    throughput = Throughput()
    throughput.images, throughput.seconds = 100, 10.0
    throughput.on_train_epoch_start(SimpleNamespace(current_epoch=1), None)
    assert throughput.epoch_rate == 0.0
    throughput.images, throughput.seconds = 160, 12.0
    assert throughput.epoch_rate == 30.0
    again = Throughput()
    again.load_state_dict(throughput.state_dict())
    again.on_train_epoch_start(SimpleNamespace(current_epoch=1), None)  # resumed within the epoch
    assert again.epoch_rate == 30.0
    assert again.images_per_second == pytest.approx(160 / 12)


def test_of_equal_cells_and_seeds_the_one_with_the_lower_loss_is_best():
    results = sweep({("a",): {0: 90, 1: 90}, ("b",): {0: 90, 1: 90}}, kind="search")
    losses = {"a": (0.5, 0.4), "b": (0.3, 0.2)}

    def with_loss(run):
        level = "a" if " a " in f"{run.command} " else "b"
        metrics = {**run.summary["metrics"], "val/loss": losses[level][run.seed]}
        return type(run)(**{**vars(run), "summary": {**run.summary, "metrics": metrics}})

    results = with_runs(results, with_loss)
    cell, run, value = pick(results)
    assert (cell.name, run.seed, value) == ("b", 1, 0.9)
    assert "no. 2 (" in conclusions(findings_of(results))[0]
