"""The corruptions of ImageNet-C: against another implementation's statistics, at any size, and always the same."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_image

from shvit_pl.data.config import CORRUPTIONS, DataConfig
from shvit_pl.data.corruptions import STRENGTHS, corrupt
from shvit_pl.data.datamodule import HFImageDataModule
from shvit_pl.data.variants import Corrupted, FiveCrops, Unchanged

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "corruptions.json").read_text())["corruptions"]
SEEDS, KEYS = 8, 3
FIXED = {"defocus_blur", "zoom_blur", "brightness", "contrast", "pixelate", "jpeg_compression"}


@pytest.fixture(scope="module")
def flower():
    picture = Image.fromarray(load_sample_image("flower.jpg"))
    left, top = (picture.width - picture.height) // 2, 0
    square = picture.crop((left, top, left + picture.height, picture.height))
    return torch.from_numpy(np.array(square.resize((160, 160), Image.Resampling.BICUBIC))).permute(2, 0, 1)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_its_pixels_are_as_those_of_imagecorruptions(name, flower):
    """Up to rounding where nothing is drawn; else within four standard errors. Frost has other pictures: 20 %."""
    for strength, golden in zip(STRENGTHS, GOLDEN[name], strict=True):
        images = [corrupt(flower, name, strength, (key,)).double() for key in range(1 if name in FIXED else KEYS)]
        ours = {
            "difference": np.mean([(image - flower).abs().mean() for image in images]),
            "mean": np.mean([image.mean() for image in images]),
            "deviation": np.mean([image.std() for image in images]),
        }
        for key, value in ours.items():
            mean, deviation = golden[key]
            tolerance = 0.1 + 4 * deviation * (1 / SEEDS + 1 / KEYS) ** 0.5
            if name == "frost":
                tolerance = 0.2 * mean
            assert value == pytest.approx(mean, abs=tolerance), (strength, key)
        assert (name in FIXED) == (golden["difference"][1] == 0)


@pytest.mark.parametrize("side", [8, 32, 64, 113])
@pytest.mark.parametrize("name", CORRUPTIONS)
def test_any_size_is_corrupted_and_always_alike(name, side):
    image = torch.randint(0, 256, (3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(side))
    once, again = (corrupt(image, name, 4, (0, 7)) for _ in range(2))
    assert (once.dtype, once.shape, once.is_contiguous()) == (torch.uint8, image.shape, True)
    assert torch.equal(once, again)
    other = corrupt(image, name, 4, (0, 8))
    assert torch.equal(once, other) == (name in FIXED or torch.equal(once, image) or bool((once == 0).all()))
    black = corrupt(torch.zeros_like(image), name, 5, (0,))
    assert black.dtype == torch.uint8


@pytest.mark.parametrize("name", sorted(set(CORRUPTIONS) - {"elastic_transform", "motion_blur"}))
def test_more_strength_changes_more(name, flower):
    changes = [(corrupt(flower, name, strength, (0,)).double() - flower).abs().mean() for strength in (1, 5)]
    assert changes[0] < changes[1]


def test_small_images_have_the_published_parameters_of_small_images(flower):
    """Contrast is scaled about the mean: by 0.75 at strength 1 of CIFAR-10-C, and by 0.4 above 48 pixels."""
    small = flower[:, 40:72, 40:72]
    for image, factor in ((small, 0.75), (flower[:, :49, :49], 0.4)):
        shares = corrupt(image, "contrast", 1, (0,)).double().std((1, 2)) / image.double().std((1, 2))
        assert shares.tolist() == pytest.approx([factor] * 3, abs=0.02)


def test_a_brighter_pixel_keeps_its_hue():
    """Value 102/255 = 0.4 becomes 0.5 at strength 1: all channels times 1.25. Black, which has none, becomes gray."""
    image = torch.zeros(3, 64, 64, dtype=torch.uint8)
    image[:, 0, 0] = torch.tensor([102, 50, 0])
    bright = corrupt(image, "brightness", 1, (0,))
    assert bright[:, 0, 0].tolist() == [127, 62, 0]
    assert bright[:, 1, 1].tolist() == [25, 25, 25]


@pytest.mark.parametrize("vary", [Corrupted(("fog", "gaussian_noise")), FiveCrops(32, 1.0, "crop"), Unchanged()])
def test_versions_do_not_depend_on_the_workers(vary):
    def read(workers, size):
        config = DataConfig("digits", image_size=32, num_workers=workers, batch_size=size)
        batches = list(HFImageDataModule(config).varied(vary, most=7))
        return {key: torch.cat([batch[key] for batch in batches]) for key in ("image", "label", "part", "whole")}

    first, second = read(0, 35), read(2, 10)
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert first["image"].shape == (7 * vary.parts, vary.versions, 3, 32, 32)
    assert first["part"].tolist() == [part for part in range(vary.parts) for _ in range(7)]


def test_the_center_of_five_crops_is_the_image_as_it_is_evaluated():
    config = DataConfig("digits", image_size=28, crop_pct=0.7, num_workers=0)
    data = HFImageDataModule(config)
    crops = next(iter(data.varied(FiveCrops(28, 0.7, "crop"))))["image"]
    plain = next(iter(data.varied(Unchanged())))["image"]
    assert torch.equal(crops[:, 4], plain[: len(crops), 0])
    assert not torch.equal(crops[:, 0], crops[:, 1])
