"""Both classes in any order of Lightning's calls, with the data module and with data that is the user's own."""

import lightning as L
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from shvit_pl import ClassificationModule
from tests.modules.conftest import CLASSES, TINY, digits
from tests.refusals import refused

OPTIONS = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "accelerator": "cpu"}
FEW = {"max_steps": 2, "limit_train_batches": 2, "limit_val_batches": 1, "limit_test_batches": 1}


def trainer(**options):
    return L.Trainer(**OPTIONS, **FEW, limit_predict_batches=1, enable_model_summary=False, **options)


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


@pytest.mark.parametrize("order", [["fit", "predict", "validate", "test"], ["predict", "test", "fit", "validate"]])
@pytest.mark.parametrize("make", [digits, OwnData])
def test_stages_come_in_any_order(make, order):
    module, data = ClassificationModule(design=TINY, class_names=CLASSES), make()
    for stage in order:
        if stage == "test" and make is digits:
            with refused("there is no test split, and the validation images have chosen the checkpoint"):
                trainer().test(module, data)
            continue
        answer = getattr(trainer(), stage)(module, data)
        if stage == "predict":
            assert answer[0]["probabilities"].shape == (8, 10)
            assert len(answer[0]["file"]) == 8


@pytest.mark.parametrize("mix", [{}, {"mixup": 0.8}])
@pytest.mark.parametrize("accumulated", [1, 2, 8])
def test_the_rate_is_scaled_by_the_images_that_a_step_really_has(accumulated, mix):
    """Of two batches of eight images, Lightning accumulates no more than both."""
    module = ClassificationModule(design=TINY, class_names=CLASSES, mix=mix)
    trainer(accumulate_grad_batches=accumulated).fit(module, OwnData().train_dataloader())
    assert module.global_batch == 8 * min(accumulated, 2)
    assert module.schedule.peak == pytest.approx(module.config.optim.lr * module.global_batch / 512)
