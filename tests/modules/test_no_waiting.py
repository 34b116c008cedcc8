"""A training step never waits for the device: it reads no tensor back, and copies no Python number to it."""

import traceback

import numpy as np
import pytest
import torch
from lightning.pytorch.loops.fetchers import _DataFetcher
from lightning.pytorch.loops.training_epoch_loop import _TrainingEpochLoop
from timm.data import Mixup
from torch.utils._python_dispatch import TorchDispatchMode

from shvit_pl import ClassificationModule
from shvit_pl.data.transforms import MixupOfEach
from shvit_pl.modules.classification import make_mixup
from shvit_pl.modules.config import MixConfig
from tests.cli.runs import EVERYTHING, fit

aten = torch.ops.aten
READ_BACK = {
    aten._local_scalar_dense.default,  # item, float, bool, if
    aten.nonzero.default,
    aten.masked_select.default,
    aten.equal.default,
    aten._unique2.default,
}
COPIED = {aten.lift_fresh.default, aten.scalar_tensor.default}  # torch.tensor(number), torch.where(mask, 1, 0)

RECIPE = [
    *EVERYTHING,
    "--model.design.depth=[1,1,1]",
    "--data.num_workers=0",
    "--trainer.log_every_n_steps=100",
    "--trainer.max_epochs=1",
    "--trainer.limit_val_batches=1",
]
UNMIXED = ["--model.mix.mixup=0", "--model.mix.cutmix=0"]


class Waiting(TorchDispatchMode):
    """Notes where training steps would wait for a GPU; the first one, which draws a figure, may.

    `_lr` stays on the CPU, and `to_device` goes through pinned memory.
    """

    def __init__(self):
        super().__init__()
        self.steps, self.inside, self.found = 0, False, []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if self.inside and self.steps > 1 and func in READ_BACK | COPIED:
            frames = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_stack()]
            if func in READ_BACK or not any(frame.endswith((" _lr", " to_device")) for frame in frames):
                self.found.append((str(func), [frame for frame in frames if "torch/" not in frame][-3:]))
        return func(*args, **(kwargs or {}))


@pytest.fixture
def waiting(monkeypatch):
    """Watches all of a step, from the batch's transfer to the callbacks and loggers, but not the loading."""
    mode, advance, load = Waiting(), _TrainingEpochLoop.advance, _DataFetcher.__next__

    def watched(self, fetcher):
        mode.steps += 1
        mode.inside = True
        advance(self, fetcher)
        mode.inside = False

    def unwatched(self):
        inside, mode.inside = mode.inside, False
        try:
            return load(self)
        finally:
            mode.inside = inside

    monkeypatch.setattr(_TrainingEpochLoop, "advance", watched)
    monkeypatch.setattr(_DataFetcher, "__next__", unwatched)
    with mode:
        yield mode


@pytest.mark.parametrize(
    "more",
    [
        [],
        ["--model.mix.mode=elem"],
        ["--model.mix.mode=pair"],
        [*UNMIXED, "--trainer.precision=bf16-mixed", "--model.freeze_bn=true", "--trainer.accumulate_grad_batches=2"],
    ],
    ids=["batch", "elem", "pair", "bf16"],
)
def test_no_step_of_the_papers_training_waits(more, waiting):
    assert fit(*RECIPE, *more) == 0
    assert (waiting.steps, waiting.found) == (4, [])


def test_a_step_that_reads_its_loss_and_timms_own_mixing_of_single_images_are_found(waiting, monkeypatch):
    def training_step(self, batch, batch_idx):
        loss = original(self, batch, batch_idx)
        return loss if loss > 0 else -loss

    original = ClassificationModule.training_step
    monkeypatch.setattr(ClassificationModule, "training_step", training_step)
    monkeypatch.setattr(MixupOfEach, "__call__", Mixup.__call__)
    assert fit(*RECIPE, "--model.mix.cutmix=0", "--model.mix.mode=elem") == 0
    found = [func for func, _ in waiting.found]
    assert (len(found), found.count("aten._local_scalar_dense.default")) == (3 + 3, 3)


@pytest.mark.parametrize("mode", ["elem", "pair"])
@pytest.mark.parametrize("both", [{"mixup": 0.8, "cutmix": 1.0}, {"mixup": 0.8, "prob": 0.5}, {"cutmix": 1.0}])
def test_mixing_as_a_whole_is_timms_mixing_one_by_one(mode, both):
    images, labels = torch.randn(12, 3, 24, 24), torch.randint(0, 7, (12,))
    ours = make_mixup(MixConfig(**both, mode=mode), 7, 0.1)
    assert type(ours) is MixupOfEach
    settings = {"mixup_alpha": ours.mixup_alpha, "cutmix_alpha": ours.cutmix_alpha, "prob": ours.mix_prob}
    theirs = Mixup(**settings, mode=mode, num_classes=7, label_smoothing=0.1)
    for seed in range(20):
        results = []
        for mixup in (ours, theirs):
            torch.manual_seed(seed)
            np.random.seed(seed)
            results.append(mixup(images.clone(), labels))
        torch.testing.assert_close(*(mixed for mixed, _ in results), atol=1e-6, rtol=0)
        torch.testing.assert_close(*(targets for _, targets in results), atol=1e-6, rtol=0)
