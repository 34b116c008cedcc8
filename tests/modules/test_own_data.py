"""Both classes in any order of Lightning's calls, with the data module and with data that is the user's own."""

import csv

import lightning as L
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger
from torch.utils.data import DataLoader, TensorDataset

from shvit_pl import ClassificationModule
from tests.modules.conftest import CLASSES, TINY, digits

OPTIONS = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "accelerator": "cpu"}
FEW = {"max_steps": 2, "limit_train_batches": 2, "limit_val_batches": 1, "limit_test_batches": 1}


def trainer(**options):
    settings = {**OPTIONS, **FEW, "limit_predict_batches": 1, "enable_model_summary": False, **options}
    return L.Trainer(**settings)


class OwnData(L.LightningDataModule):
    """Pairs of images and labels; to predict, images alone."""

    def __init__(self, labeled=True):
        super().__init__()
        images, labels = torch.randn(16, 3, 64, 64), torch.arange(16) % 10
        self.rows, self.images = TensorDataset(images, labels), TensorDataset(images)

    def train_dataloader(self):
        return DataLoader(self.rows, batch_size=8)

    val_dataloader = test_dataloader = train_dataloader

    def predict_dataloader(self):
        return DataLoader(self.images, batch_size=8)


ORDERS = ["fit predict validate test", "predict test fit validate", "validate fit", "test validate fit fit"]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("make", [digits, OwnData])
def test_stages_come_in_any_order(make, order):
    module, data, same = ClassificationModule(design=TINY, class_names=CLASSES, ema={"decay": 0.9}), make(), trainer()
    for number, stage in enumerate(order.split()):
        answer = getattr(same if number else trainer(), stage)(module, data)
        if stage == "predict":
            assert answer[0]["probabilities"].shape == (8, 10)
            assert len(answer[0]["file"]) == 8


def test_a_checkpoint_is_validated_then_trained_on(tmp_path):
    fitted = trainer()
    fitted.fit(ClassificationModule(design=TINY, class_names=CLASSES), OwnData())
    fitted.save_checkpoint(tmp_path / "own.ckpt")
    module = ClassificationModule.load_from_checkpoint(tmp_path / "own.ckpt")
    before = trainer().validate(module, OwnData().val_dataloader())
    trainer(num_sanity_val_steps=0, max_epochs=0).fit(module, OwnData())
    trainer().fit(module, OwnData().train_dataloader(), OwnData().val_dataloader())
    assert before[0].keys() == {"val/acc1", "val/loss", "val/acc5"}


class Losses(L.Callback):
    """Loss of each step, and the mean that callbacks and loggers see."""

    def __init__(self):
        self.steps, self.seen = [], []

    def on_train_batch_end(self, trainer, module, outputs, *args):
        self.steps.append(float(outputs["loss"]))

    def on_validation_end(self, trainer, module):
        if not trainer.sanity_checking:
            self.seen.append((len(self.steps), float(trainer.callback_metrics["train/loss_epoch"])))


@pytest.mark.parametrize(
    ("rare", "spans"),
    [
        ({"check_val_every_n_epoch": 2}, [(4, 8), (12, 16)]),
        ({"val_check_interval": 2}, [(0, 2), (0, 4), (4, 6), (4, 8)]),
        ({"val_check_interval": 6, "check_val_every_n_epoch": None}, [(4, 6), (8, 12)]),
    ],
)
def test_the_mean_loss_is_that_of_the_epoch_so_far(rare, spans, tmp_path):
    losses, logger = Losses(), CSVLogger(tmp_path)
    options = OPTIONS | {"logger": logger, "callbacks": [losses]} | rare
    loader = DataLoader(TensorDataset(torch.randn(16, 3, 64, 64), torch.arange(16) % 10), batch_size=4)
    module = ClassificationModule(design=TINY, class_names=CLASSES)
    L.Trainer(max_epochs=spans[-1][1] // 4, limit_val_batches=1, log_every_n_steps=1, **options).fit(
        module, loader, loader
    )
    means = [(end, pytest.approx(sum(losses.steps[start:end]) / (end - start), rel=1e-5)) for start, end in spans]
    assert losses.seen == means
    with open(tmp_path / "lightning_logs" / "version_0" / "metrics.csv") as file:
        logged = [float(row["train/loss_epoch"]) for row in csv.DictReader(file) if row["train/loss_epoch"]]
    epochs = range(0, len(losses.steps), 4)
    assert logged == pytest.approx([sum(losses.steps[first : first + 4]) / 4 for first in epochs], rel=1e-5)


@pytest.mark.parametrize("mix", [{}, {"mixup": 0.8}])
@pytest.mark.parametrize("accumulated", [1, 2, 8])
def test_the_rate_is_scaled_by_the_images_that_a_step_really_has(accumulated, mix):
    """Of two batches of eight images, Lightning accumulates no more than both."""
    module = ClassificationModule(design=TINY, class_names=CLASSES, mix=mix)
    trainer(accumulate_grad_batches=accumulated).fit(module, OwnData().train_dataloader())
    assert module.global_batch == 8 * min(accumulated, 2)
    assert module.schedule.peak == pytest.approx(module.config.optim.lr * module.global_batch / 512)
