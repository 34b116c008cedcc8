"""Batches on the device: normalized, erased and mixed by keys, and augmented as by the workers where asked for."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from scipy.stats import ks_2samp
from timm.data import Mixup
from timm.data.random_erasing import RandomErasing
from torchvision.transforms import ColorJitter, RandomResizedCrop

from shvit_pl import HFImageDataModule
from shvit_pl.callbacks.throughput import advice
from shvit_pl.data import datamodule
from shvit_pl.data.batch_transform import BatchTransform, PlannedCrop, collate_planned, denormalize, erase, normalize
from shvit_pl.data.config import DataConfig
from shvit_pl.randomness import seed_all, seeded
from tests.data import pictures

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SIZES = [(50, 40), (300, 200), (120, 90), (33, 200), (64, 64), (1, 60), (5, 5)]


def some_bytes(*shape):
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_normalizing_goes_back_and_erasing_is_timms_with_noise_of_normalized_pixels():
    images = some_bytes(2, 3, 8, 8)
    normal = normalize(images, MEAN, STD)
    expected = (images / 255 - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    torch.testing.assert_close(normal, expected)
    torch.testing.assert_close(denormalize(normal, MEAN, STD), images / 255)
    black = torch.zeros(8, 3, 64, 64)
    seed_all(5)
    expected = RandomErasing(0.5, mode="pixel", device="cpu")(black.clone())
    assert torch.equal(erase(black.clone(), 0.5, key=5), expected)
    assert 0.8 < expected[expected != 0].std() < 1.2


def test_training_batches_are_erased_and_mixed_by_their_keys_and_others_are_not():
    mixup = Mixup(mixup_alpha=0.8, num_classes=10)
    finish = BatchTransform(DataConfig(image_size=32, erasing=1.0), MEAN, STD, mixup)
    batch = {"image": some_bytes(8, 3, 32, 32), "label": torch.arange(8), "key": 7}
    one, again, other = (finish(batch, step=(step, 3)) for step in (0, 0, 1))
    assert torch.equal(one["image"], again["image"])
    assert torch.equal(one["target"], again["target"])
    assert not torch.equal(one["image"], other["image"])
    images = erase(normalize(batch["image"], MEAN, STD), 1.0, key=7)
    with seeded(0, 3):
        expected, targets = mixup(images.clone(), batch["label"])
    assert torch.equal(one["image"], expected)
    assert torch.equal(one["target"], targets)
    assert not torch.equal(expected, images)
    evaluated = finish({"image": batch["image"]})  # labels are not needed
    assert torch.equal(evaluated["image"], normalize(batch["image"], MEAN, STD))
    assert "target" not in evaluated
    unmixed = replace(finish, mixup=None)(batch)
    assert torch.equal(unmixed["image"], images)
    assert torch.equal(unmixed["target"], batch["label"])


def test_a_steps_mixing_is_drawn_by_what_the_step_is_seeded_by(monkeypatch):
    monkeypatch.setenv("PL_GLOBAL_SEED", "4")
    monkeypatch.setattr(datamodule, "BatchTransform", lambda *settings: lambda batch, step: step)
    progress = SimpleNamespace(batch_progress=SimpleNamespace(current=SimpleNamespace(ready=9)))
    data = HFImageDataModule()
    data.trainer = SimpleNamespace(
        current_epoch=2,
        global_rank=1,
        fit_loop=SimpleNamespace(epoch_loop=progress),
        precision_plugin=SimpleNamespace(train_step_context=None),
    )
    assert data.on_after_batch_transfer({}, 0) == (4, 2, 9, 1)


# ---- augmentation on the device


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """140 pictures of many shapes, as parquet."""
    folder = tmp_path_factory.mktemp("photos")
    images = [pictures.encoded(pictures.photo(*SIZES[n % len(SIZES)], seed=n), "PNG") for n in range(140)]
    pictures.stored_rows(images, [0, 1] * 70).to_parquet(str(folder / "train.parquet"))
    return str(folder)


def batches(path, on, **settings):
    options = {"image_size": 48, "batch_size": 16, "num_workers": 0, "color_jitter": 0.4, "erasing": 0.0}
    data = HFImageDataModule(path=path, **{**options, **settings}, augment_on=on)
    data.setup("fit")
    return [
        data.on_after_batch_transfer(data.on_before_batch_transfer(batch, 0), 0) for batch in data.train_dataloader()
    ]


@pytest.mark.parametrize(
    "settings", [{"erasing": 0.25}, {"repeats": 3}, {"num_workers": 2}], ids=lambda settings: next(iter(settings))
)
def test_without_jitter_every_image_is_the_workers_own(photos, settings):
    ours, theirs = (batches(photos, on, color_jitter=0.0, **settings) for on in ("device", "workers"))
    assert len(ours) == len(theirs) > 3
    for mine, other in zip(ours, theirs, strict=True):
        assert torch.equal(mine["image"], other["image"])
        assert torch.equal(mine["label"], other["label"])


def test_with_jitter_few_values_are_off_and_by_three_levels_at_most_whatever_the_batch(photos):
    """PIL rounds each change to whole levels; where one is rounded otherwise here, the next ones magnify that."""
    ours, theirs, small = (
        torch.cat([batch["image"] for batch in batches(photos, on, batch_size=size)])
        for on, size in (("device", 16), ("workers", 16), ("device", 4))
    )
    levels = (255 * (denormalize(ours, MEAN, STD) - denormalize(theirs, MEAN, STD))).abs().round()
    assert levels.max() <= 3
    assert (levels > 0).float().mean() < 0.01
    assert (levels > 1).float().mean() < 0.001
    assert torch.equal(ours[:64], small[:64])


def test_crops_flips_and_factors_are_distributed_as_torchvisions():
    """By Kolmogorov and Smirnov, at the level of 0.1 %."""

    def alike(ours, theirs):
        return ks_2samp(ours, theirs).pvalue > 1e-3

    image, draw, jitter = torch.zeros(3, 100, 120, dtype=torch.uint8), PlannedCrop(400, 0.4), ColorJitter(0.4, 0.4, 0.4)
    torch.manual_seed(0)
    crops, plans = zip(*(draw(image) for _ in range(2000)), strict=True)
    torch.manual_seed(1)
    boxes = [RandomResizedCrop.get_params(image, [0.08, 1.0], [3 / 4, 4 / 3])[2:] for _ in range(2000)]
    factors = [ColorJitter.get_params(jitter.brightness, jitter.contrast, jitter.saturation, None) for _ in range(2000)]
    sides, plan = [crop.shape[1:] for crop in crops], torch.stack(plans).numpy()
    assert alike([height * width for height, width in sides], [height * width for height, width in boxes])
    assert alike([width / height for height, width in sides], [width / height for height, width in boxes])
    assert 0.46 < plan[:, 0].mean() < 0.54
    for column in (1, 2, 3):
        assert alike(plan[:, column], [each[column] for each in factors])
    assert len({tuple(order) for order in plan[:, 4:]}) == 6
    assert not alike(plan[:, 1], [1.1 * each[1] for each in factors])  # so the test can tell


def test_a_large_crop_is_made_small_before_it_is_sent_and_a_broken_image_has_a_place_in_the_batch():
    pixels = torch.zeros(3, 700, 900, dtype=torch.uint8)
    torch.manual_seed(0)
    crops = [PlannedCrop(64, 0.0)(pixels)[0] for _ in range(50)]
    assert max(crop[0].numel() for crop in crops) <= 4 * 64 * 64
    crop, plan = PlannedCrop(8, 0.4)(pixels[:, :9, :9])
    whole = {"image": crop, "plan": plan, "label": 1}
    batch = collate_planned([whole, {"image": torch.zeros(3, 8, 8, dtype=torch.uint8), "label": -1}])
    assert batch["plan"].shape == (2, 7)
    assert batch["image"].numel() == crop.numel() + 3 * 64


def test_the_advice_names_it_where_it_would_help():
    config = DataConfig(path="photos")
    assert "--data.augment_on device" in advice(0.4, config, 2, "cuda")
    assert "augment_on" not in advice(0.4, replace(config, augment_on="device"), 2, "cuda")
    assert "augment_on" not in advice(0.4, replace(config, auto_augment="3a"), 2, "cuda")
    assert "augment_on" not in advice(0.4, config, 2, "cpu")
