"""Transforms: what the official code does on PIL images, on tensors; batches on the device, by keys."""

import pickle
import random
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torchvision.transforms as official
from PIL import Image as PILImage
from timm.data import Mixup, create_transform
from timm.data.random_erasing import RandomErasing
from torchvision.transforms.functional import pil_to_tensor, to_pil_image

from shvit_pl import HFImageDataModule, randomness
from shvit_pl.data import transforms
from shvit_pl.data.config import DataConfig
from shvit_pl.data.transforms import PlannedCrop, denormalize, finish_batch, normalize
from tests.data.pictures import encoded, photo, ready, stored_rows

BICUBIC = official.InterpolationMode.BICUBIC
RANDAUGMENT = "rand-m9-mstd0.5-inc1"
PHOTOGRAPH = (500, 375)
SIZES = [PHOTOGRAPH, (333, 501), (224, 224), (20, 13), (1, 1), (1, 15), (90, 7)]


def training(size, augment="crop", **settings):
    return transforms.train_transform(DataConfig(image_size=size, augment=augment, **settings))


def seeded(transform, image, seed=0):
    """The transform's result under a seed of all three generators."""
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed)
    return transform(image)


def resized(picture, width, height):
    """PIL's resize, horizontally first; from Pillow 13 on it goes vertically first where that is faster."""
    return picture.resize((width, picture.height), PILImage.BICUBIC).resize((width, height), PILImage.BICUBIC)


def assert_pils_pixels(tensor, picture, most=2):
    """Equal but for rounding: one level on under 1 % of the values, two on single ones in enlarged images."""
    difference = (tensor.int() - pil_to_tensor(picture).int()).abs()
    assert difference.max() <= most
    assert (difference > 1).float().mean() < 2e-4
    assert (difference > 0).float().mean() < 0.01


@pytest.mark.parametrize("size", SIZES)
def test_evaluation_is_the_official_resize_and_crop_or_resize_of_both_sides(size):
    picture = photo(*size)
    pixels = pil_to_tensor(picture)
    for side, crop_pct in ((224, 0.875), (97, 0.9), (160, 1.0)):
        crop = official.Compose([official.Resize(int(side / crop_pct), BICUBIC), official.CenterCrop(side)])
        most = 1 if size == PHOTOGRAPH and side == 224 else 2
        assert_pils_pixels(transforms.eval_transform(side, crop_pct)(pixels), crop(picture), most)
    assert_pils_pixels(transforms.eval_transform(224, 0.875, "squash")(pixels), resized(picture, 224, 224))


@pytest.mark.parametrize("size", SIZES)
def test_the_training_crop_is_torchvisions_on_pil_under_the_same_seed(size):
    def reference(picture):
        top, left, height, width = official.RandomResizedCrop.get_params(picture, [0.08, 1.0], [3 / 4, 4 / 3])
        crop = resized(picture.crop((left, top, left + width, top + height)), 128, 128)
        return official.RandomHorizontalFlip()(crop)

    picture, transform = photo(*size), training(128)
    for seed in range(4):
        assert_pils_pixels(seeded(transform, pil_to_tensor(picture), seed), seeded(reference, picture, seed))


COLORS = [
    (RANDAUGMENT, 0.3),  # which takes no jitter
    ("rand-m7-n3-p0.7", 0),
    ("rand-m6-n2-tweights-inc1", 0),
    ("3a", 0),
    ("3a", 0.3),
    (None, 0.4),
]


@pytest.mark.parametrize(("name", "jitter"), COLORS)
def test_colors_change_exactly_as_in_timms_training_transform(name, jitter):
    options = {"auto_augment": name, "color_jitter": jitter or None, "interpolation": "bicubic"}
    _, reference, _ = create_transform(96, is_training=True, separate=True, **options)
    for step in reference.transforms:
        if hasattr(step, "ops"):
            transforms.repair(step)
    image = pil_to_tensor(photo(96, 96))
    transform = training(96, "none", crop_pct=1.0, auto_augment=name, color_jitter=jitter)
    results = [seeded(transform, image, seed) for seed in range(30)]
    for seed, result in enumerate(results):
        assert torch.equal(result, pil_to_tensor(seeded(reference, to_pil_image(image), seed)))
    assert sum(not torch.equal(result, image) for result in results) > 15


def test_posterizing_at_full_magnitude_is_black_and_no_error():
    image, transform = pil_to_tensor(photo()), training(32, "none", crop_pct=1.0, auto_augment="rand-m10-n1-p1-inc1")
    results = [seeded(transform, image, seed) for seed in range(60)]
    assert any((result == 0).all() for result in results)


@pytest.mark.parametrize("augment", ["none", "shift", "crop"])
@pytest.mark.parametrize("name", [None, RANDAUGMENT, "3a"])
def test_the_result_is_always_a_square_of_bytes_that_follows_the_seed_also_once_pickled(augment, name):
    transform = training(40, augment, auto_augment=name, color_jitter=0.3)
    for size in ((50, 40), (1, 60), (60, 1), (1, 1)):
        result = transform(pil_to_tensor(photo(*size)))
        assert (result.dtype, tuple(result.shape), result.is_contiguous()) == (torch.uint8, (3, 40, 40), True)
    image, pickled = pil_to_tensor(photo()), pickle.dumps(transform)
    assert len(pickled) < 10_000
    first, again = (seeded(each, image, 1) for each in (transform, pickle.loads(pickled)))
    assert torch.equal(first, again)
    assert not torch.equal(first, seeded(transform, image, 2))


# ---- batches on the device


MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SHAPES = [(50, 40), (300, 200), (120, 90), (33, 200), (64, 64), (1, 60), (5, 5)]


def some_bytes(*shape):
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_normalizing_goes_back_and_erasing_is_timms_with_noise_of_normalized_pixels():
    images = some_bytes(2, 3, 8, 8)
    normal = normalize(images, MEAN, STD)
    expected = (images / 255 - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    torch.testing.assert_close(normal, expected)
    torch.testing.assert_close(denormalize(normal, MEAN, STD), images / 255)
    black = torch.zeros(8, 3, 64, 64)
    randomness.seed_all(5)
    expected = RandomErasing(0.5, mode="pixel", device="cpu")(black.clone())
    assert torch.equal(transforms.erase(black.clone(), 0.5, key=5), expected)
    assert 0.8 < expected[expected != 0].std() < 1.2


def test_training_batches_are_erased_and_mixed_by_their_keys_and_others_are_not():
    mixup = Mixup(mixup_alpha=0.8, num_classes=10)
    settings = DataConfig(image_size=32, erasing=1.0), MEAN, STD
    batch = {"image": some_bytes(8, 3, 32, 32), "label": torch.arange(8), "key": 7}
    images = transforms.erase(normalize(batch["image"], MEAN, STD), 1.0, key=7)
    for step in (0, 1):
        finished = finish_batch(batch, *settings, mixup, step=(step, 3))
        with randomness.seeded(step, 3):
            expected, targets = mixup(images.clone(), batch["label"])
        assert torch.equal(finished["image"], expected)
        assert torch.equal(finished["target"], targets)
        assert not torch.equal(expected, images)
    evaluated = finish_batch({"image": batch["image"]}, *settings, mixup)  # labels are not needed
    assert torch.equal(evaluated["image"], normalize(batch["image"], MEAN, STD))
    assert "target" not in evaluated
    unmixed = finish_batch(batch, *settings)
    assert torch.equal(unmixed["image"], images)
    assert torch.equal(unmixed["target"], batch["label"])


def test_a_steps_mixing_is_drawn_by_what_the_step_is_seeded_by(monkeypatch):
    monkeypatch.setenv("PL_GLOBAL_SEED", "4")
    monkeypatch.setattr(transforms, "finish_batch", lambda batch, config, mean, std, mixup, step, precision: step)
    progress = SimpleNamespace(batch_progress=SimpleNamespace(current=SimpleNamespace(ready=9)))
    plugin = SimpleNamespace(train_step_context=None)
    data = HFImageDataModule()
    data.trainer = SimpleNamespace(
        current_epoch=2, global_rank=1, fit_loop=SimpleNamespace(epoch_loop=progress), precision_plugin=plugin
    )
    assert data.on_after_batch_transfer({}, 0) == (4, 2, 9, 1)


# ---- augmentation on the device, as by the workers


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """140 pictures of many shapes, as parquet."""
    folder = tmp_path_factory.mktemp("photos")
    images = [encoded(photo(*SHAPES[n % len(SHAPES)], seed=n), "PNG") for n in range(140)]
    stored_rows(images, [0, 1] * 70).to_parquet(str(folder / "train.parquet"))
    return str(folder)


def batches(path, on, **settings):
    options = {"image_size": 48, "batch_size": 16, "color_jitter": 0.4}
    data = ready(path=path, augment_on=on, **{**options, **settings})
    for batch in data.train_dataloader():
        yield data.on_after_batch_transfer(data.on_before_batch_transfer(batch, 0), 0)


@pytest.mark.parametrize("settings", [{"erasing": 0.25}, {"repeats": 3}, {"num_workers": 2}], ids=str)
def test_without_jitter_every_image_is_the_workers_own(photos, settings):
    ours, theirs = (list(batches(photos, on, color_jitter=0.0, **settings)) for on in ("device", "workers"))
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


def test_a_large_crop_is_made_small_before_it_is_sent_and_a_broken_image_has_a_place_in_the_batch():
    pixels = torch.zeros(3, 700, 900, dtype=torch.uint8)
    torch.manual_seed(0)
    assert max(PlannedCrop(64, 0.0)(pixels)[0][0].numel() for _ in range(50)) <= 4 * 64 * 64
    crop, plan = PlannedCrop(8, 0.4)(pixels[:, :9, :9])
    whole = {"image": crop, "plan": plan, "label": 1}
    batch = transforms.collate_planned([whole, {"image": torch.zeros(3, 8, 8, dtype=torch.uint8), "label": -1}])
    assert batch["plan"].shape == (2, 7)
    assert batch["image"].numel() == crop.numel() + 3 * 64


def test_the_advice_names_it_where_it_would_help():
    config = DataConfig(path="photos")
    assert "--data.augment_on device" in HFImageDataModule(config).lighter_ways("cuda")
    for changes, device in (({"augment_on": "device"}, "cuda"), ({"auto_augment": "3a"}, "cuda"), ({}, "cpu")):
        assert "augment_on" not in str(HFImageDataModule(replace(config, **changes)).lighter_ways(device))
