"""Transforms: what the official code does on PIL images, on tensors."""

import pickle
import random

import numpy as np
import pytest
import torch
import torchvision.transforms as official
from PIL import Image as PILImage
from timm.data import create_transform
from torchvision.transforms.functional import pil_to_tensor, to_pil_image

from shvit_pl.data.config import DataConfig
from shvit_pl.data.transforms import eval_transform, repair, train_transform
from tests.data.pictures import photo

BICUBIC = official.InterpolationMode.BICUBIC
RANDAUGMENT = "rand-m9-mstd0.5-inc1"
PHOTOGRAPH = (500, 375)
SIZES = [PHOTOGRAPH, (333, 501), (224, 224), (20, 13), (1, 1), (1, 60), (700, 9)]


def training(size, augment="crop", **settings):
    return train_transform(DataConfig(image_size=size, augment=augment, **settings))


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
        assert_pils_pixels(eval_transform(side, crop_pct)(pixels), crop(picture), most)
    assert_pils_pixels(eval_transform(224, 0.875, "squash")(pixels), resized(picture, 224, 224))


@pytest.mark.parametrize("size", SIZES)
def test_the_training_crop_is_torchvisions_on_pil_under_the_same_seed(size):
    def reference(picture):
        top, left, height, width = official.RandomResizedCrop.get_params(picture, [0.08, 1.0], [3 / 4, 4 / 3])
        crop = resized(picture.crop((left, top, left + width, top + height)), 128, 128)
        return official.RandomHorizontalFlip()(crop)

    picture, transform = photo(*size), training(128)
    for seed in range(8):
        assert_pils_pixels(seeded(transform, pil_to_tensor(picture), seed), seeded(reference, picture, seed))


COLORS = [
    (RANDAUGMENT, 0.3),
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
            repair(step)
    image = pil_to_tensor(photo(96, 96))
    transform = training(96, "none", crop_pct=1.0, auto_augment=name, color_jitter=jitter)
    results = [seeded(transform, image, seed) for seed in range(60)]
    for seed, result in enumerate(results):
        assert torch.equal(result, pil_to_tensor(seeded(reference, to_pil_image(image), seed)))
    assert sum(not torch.equal(result, image) for result in results) > 30


def test_color_jitter_has_no_effect_beside_randaugment():
    image = pil_to_tensor(photo())
    plain, jittered = (training(64, auto_augment=RANDAUGMENT, color_jitter=jitter) for jitter in (0.0, 0.4))
    assert torch.equal(seeded(plain, image), seeded(jittered, image))


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
