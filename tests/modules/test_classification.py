"""A step of the module: targets, averages, frozen statistics, recomputation."""

import lightning as L
import pytest
import torch
from timm.utils import ModelEmaV3
from torch.nn import functional as F
from torch.utils.data import DataLoader

from shvit_pl import ClassificationModule
from shvit_pl.modules.config import EmaConfig, MixConfig
from tests.cli.runs import assert_same
from tests.conftest import perturb_
from tests.modules.conftest import CLASSES, TINY, batch_of, logged_by, train


def module_of(**settings):
    module = ClassificationModule(design=TINY, class_names=CLASSES, **settings)
    perturb_(module.model)
    logged_by(module)
    return module


def test_without_mixing_the_loss_is_cross_entropy_with_label_smoothing():
    module, batch = module_of(label_smoothing=0.1).eval(), batch_of()
    expected = F.cross_entropy(module(batch["image"]), batch["label"], label_smoothing=0.1)
    torch.testing.assert_close(module.training_step(batch, 0), expected)


@pytest.mark.parametrize("mix", [MixConfig(mixup=0.8), MixConfig(cutmix=1.0), MixConfig(mixup=0.8, cutmix=1.0)])
def test_with_mixing_the_network_sees_mixed_images_and_learns_both_labels(mix):
    """On a loader of one's own; that of the data module is mixed by it, see tests/data/test_batch_transform.py."""
    module, batch, steps = module_of(mix=mix), batch_of(), []
    made = module.training_batch
    module.training_batch = lambda batch: steps.append(made(batch)) or steps[-1]
    items = [{"image": image, "label": label} for image, label in zip(batch["image"], batch["label"], strict=True)]
    train(module, 1, DataLoader(items, batch_size=8))
    images, targets = steps[0]["image"], steps[0]["target"]
    assert not torch.equal(images, batch["image"])
    torch.testing.assert_close(targets.sum(dim=1), torch.ones(len(targets)))
    assert (targets > 0.0101).sum(dim=1).max() == 2
    module.eval()
    torch.testing.assert_close(module.training_step(steps[0], 0), F.cross_entropy(module(images), targets))


def test_the_average_follows_timms_rule_after_every_step_is_not_trained_and_is_evaluated_too():
    module = ClassificationModule(design=TINY, class_names=CLASSES, ema=EmaConfig(decay=0.9))
    reference, decays = ModelEmaV3(module.model, decay=0.9, use_warmup=True), []

    class Follow(L.Callback):
        def on_train_batch_end(self, trainer, pl_module, *args):
            reference.update(pl_module.model, step=trainer.global_step)
            decays.append(reference.get_decay(trainer.global_step))

    train(module, 6, limit_val_batches=2, callbacks=[Follow()])
    averaged, weights = module.ema.module.state_dict(), module.model.state_dict()
    assert_same(reference.module.state_dict(), averaged)
    assert decays[0] == 0.0  # the first step replaces the fresh weights
    assert decays == sorted(decays)
    statistic = "stages.0.blocks.0.conv.m.bn.running_mean"  # buffers are averaged too
    assert not torch.equal(averaged[statistic], weights[statistic])
    trained = {id(p) for group in module.trainer.optimizers[0].param_groups for p in group["params"]}
    assert trained == {id(parameter) for parameter in module.model.parameters()}
    assert not any(parameter.requires_grad for parameter in module.ema.parameters())
    assert not any(part.training for part in module.train().ema.modules())
    data = module.trainer.datamodule
    metrics = module.trainer.validate(module, data, verbose=False)[0]
    plain = ClassificationModule(design=TINY, class_names=CLASSES)
    plain.model.load_state_dict(averaged)
    trainer = L.Trainer(accelerator="cpu", limit_val_batches=2, logger=False, enable_checkpointing=False)
    alone = trainer.validate(plain, data, verbose=False)[0]
    for name in ("loss", "acc1", "acc5"):
        assert metrics[f"val/{name}_ema"] == alone[f"val/{name}"]
    assert metrics["val/loss_ema"] != metrics["val/loss"]


def test_a_frozen_batchnorm_keeps_its_statistics_and_learns_its_weights():
    module = ClassificationModule(design=TINY, class_names=CLASSES, freeze_bn=True)
    before = {key: value.clone() for key, value in module.model.state_dict().items()}
    after = train(module).model.state_dict()
    assert all(torch.equal(after[key], before[key]) for key in before if "running_" in key)
    assert not torch.equal(after["patch_embed.0.bn.weight"], before["patch_embed.0.bn.weight"])


def test_gradient_checkpointing_reaches_the_network():
    assert module_of(grad_checkpointing=True).model.stages[1].grad_checkpointing


def test_channels_last_changes_the_layout_and_not_the_result():
    plain, other = module_of().eval(), module_of(channels_last=True).eval()
    assert plain.memory_format is torch.contiguous_format  # without a trainer, auto knows no device
    images = batch_of()["image"]
    assert other.model.patch_embed[0].c.weight.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(other(images), plain(images), rtol=1e-4, atol=1e-4)


def test_images_that_do_not_count_change_no_metric():
    module = module_of().eval()
    batch, more = batch_of(), batch_of(4, seed=1)
    module._evaluate(batch, "val")
    expected = {name: metric.compute() for name, metric in module.metrics["val"].items()}
    module.metrics["val"].reset()
    labels = torch.cat([batch["label"], torch.full((4,), -1)])
    module._evaluate({"image": torch.cat([batch["image"], more["image"]]), "label": labels}, "val")
    for name, metric in module.metrics["val"].items():
        torch.testing.assert_close(metric.compute(), expected[name])


@pytest.mark.parametrize(
    ("precision", "asked", "expected"),
    [
        ("32-true", "auto", torch.channels_last),
        ("32-true", False, torch.contiguous_format),
        ("bf16-mixed", True, torch.channels_last),
    ],
)
def test_weights_and_average_lie_as_suits_the_device(precision, asked, expected):
    settings = {"design": TINY, "class_names": CLASSES, "ema": EmaConfig(decay=0.9)}
    module = train(ClassificationModule(**settings, channels_last=asked), precision=precision)
    for network in (module.model, module.ema.module):
        assert network.patch_embed[0].c.weight.is_contiguous(memory_format=expected)
