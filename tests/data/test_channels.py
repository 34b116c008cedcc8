"""Gray images, other depths and any number of channels: the values that are stored reach the network."""

from io import BytesIO

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from shvit_pl import HFImageDataModule
from shvit_pl.data.channels import WrongChannels, read_channels
from shvit_pl.data.config import DataConfig
from shvit_pl.data.transforms import viewable
from shvit_pl.errors import UserError
from tests.data.pictures import encoded

DEEP = np.array([[0, 1, 257], [4095, 40000, 65535]], np.uint16)


def tiff(values, **options):
    """The array as a TIFF file's bytes."""
    file = BytesIO()
    tifffile.imwrite(file, values, **options)
    return file.getvalue()


def npy(values):
    """The array as a file of numpy."""
    file = BytesIO()
    np.save(file, values)
    return file.getvalue()


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_16_bits_of_gray_are_kept(form):
    values = read_channels(encoded(Image.fromarray(DEEP), form), 1)
    assert values.dtype == torch.float32
    assert (values * 65535).round().int().tolist() == [[[0, 1, 257], [4095, 40000, 65535]]]


def test_an_intensity_range_becomes_0_to_1():
    values = read_channels(encoded(Image.fromarray(DEEP), "PNG"), 1, (0, 4095))
    assert values[0, 1].tolist() == [1.0, 1.0, 1.0]  # 4095, and what is clipped
    assert values[0, 0, 2].item() == pytest.approx(257 / 4095)


def test_floating_point_numbers_are_kept():
    stored = np.array([[-3.5, 0.1], [1e-7, 1234.5]], np.float32)
    assert torch.equal(read_channels(encoded(Image.fromarray(stored), "TIFF"), 1)[0], torch.from_numpy(stored))


def test_color_becomes_its_luma():
    picture = Image.new("RGB", (2, 1), (255, 0, 100))
    assert read_channels(encoded(picture, "PNG"), 1)[0, 0].tolist() == pytest.approx([0.299 + 0.114 * 100 / 255] * 2)


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("store", [npy, tiff])
def test_n_channels_are_found_first_or_last(first, store):
    stored = np.arange(5 * 6 * 7, dtype=np.uint16).reshape(5, 6, 7)
    options = {"photometric": "minisblack"} if store is tiff else {}
    values = read_channels(store(stored if first else np.moveaxis(stored, 0, 2), **options), 5)
    assert torch.equal((values * 65535).round().int(), torch.from_numpy(stored.astype(np.int32)))


@pytest.mark.parametrize(
    ("shape", "channels", "words"),
    [
        ((4, 9, 4), 4, "channels may be first or last"),
        ((9, 8, 5), 4, "9 x 8 x 5, without 4 channels"),
        ((9, 8), 4, "it has 1 channel, not 4"),
        ((9, 8, 7), 1, "9 x 8 x 7, without 1 channel"),
    ],
)
def test_other_channels_are_refused(shape, channels, words):
    with pytest.raises(WrongChannels, match=words):
        read_channels(npy(np.zeros(shape, np.float32)), channels)


def test_nan_is_refused():
    with pytest.raises(ValueError, match="NaN"):
        read_channels(npy(np.full((3, 3), np.nan, np.float32)), 1)


@pytest.fixture
def folder(tmp_path):
    """Four images of two classes, of two channels: everywhere 0.25 and 10, or 0.75 and 30."""
    for number in range(8):
        label, values = ("a", (0.25, 10)) if number % 2 else ("b", (0.75, 30))
        (tmp_path / label).mkdir(exist_ok=True)
        np.save(tmp_path / label / f"{number}.npy", np.full((9, 8, 2), values, np.float32))
    return tmp_path


def module(folder, **settings):
    chosen = {"channels": 2, "image_size": 8, "crop_pct": 1.0, "batch_size": 2, "num_workers": 0, "augment": "none"}
    return HFImageDataModule(folder, **{**chosen, "validation_fraction": 0.25, **settings})


def test_mean_and_std_are_measured_on_the_training_images(folder):
    data = module(folder)
    data.setup("fit")
    assert data.per_class() == [3, 3]
    # half of the pixels are 0.25 and half 0.75, half 10 and half 30
    assert data.mean == pytest.approx((0.5, 20.0))
    assert data.std == pytest.approx((0.25, 10.0))
    assert data.hparams["mean"] == list(data.mean)
    batch = data.on_after_batch_transfer(next(iter(data.train_dataloader())), 0)
    assert batch["image"].shape == (2, 2, 8, 8)
    assert {round(value, 4) for value in batch["image"].flatten().tolist()} <= {-1.0, 1.0}


def test_what_was_measured_is_kept_until_an_image_changes(folder):
    first = module(folder)
    first.setup("fit")
    again = module(folder)
    again._training_images = lambda: (pytest.fail("measured again") for _ in range(1))  # where it is read
    again.setup("fit")
    assert (again.mean, again.std) == (first.mean, first.std)
    for file in folder.rglob("*.npy"):
        np.save(file, np.load(file) * 2)
    changed = module(folder)
    changed.setup("fit")
    assert changed.mean == pytest.approx((1.0, 40.0))


def test_rgb_is_measured_as_numpy_does(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 8, 3), dtype=np.uint8)
    for number, each in enumerate(pixels):
        (tmp_path / "ab"[number % 2]).mkdir(exist_ok=True)
        Image.fromarray(each).save(tmp_path / "ab"[number % 2] / f"{number}.png")
    data = module(tmp_path, channels="rgb", mean="auto")
    data.setup("fit")
    rows = [row["image"]["path"] for row in data.chosen.by_stage["train"]]
    trained = np.stack([np.asarray(Image.open(path)) for path in rows]) / 255
    assert data.mean == pytest.approx(tuple(trained.mean((0, 1, 2))), abs=1e-7)
    assert data.std == pytest.approx(tuple(trained.std((0, 1, 2))), abs=1e-7)


def test_an_image_of_other_channels_is_named_at_once(folder):
    with pytest.raises(UserError, match=r"data\.channels 4: .*\.npy: it is of 9 x 8 x 2, without 4 channels"):
        module(folder, channels=4).setup("fit")
    module(folder, channels=2).setup("fit")


def test_a_channel_of_one_value_is_refused(folder):
    for file in folder.rglob("*.npy"):
        np.save(file, np.load(file) * [1, 0])
    with pytest.raises(UserError, match=r"data\.std auto: channel 2 of 2 has the same value"):
        module(folder).setup("fit")
    module(folder, mean=[0.5, 0.0], std=[0.25, 1.0]).setup("fit")


def test_only_fit_measures(folder):
    with pytest.raises(UserError, match=r"data\.mean auto: fit alone measures"):
        module(folder).setup("validate")
    module(folder, mean=[0.5, 20.0], std=[0.25, 10.0]).setup("validate")


@pytest.mark.parametrize(
    ("wrong", "words", "cure"),
    [
        ({"channels": 3}, "data.channels 3: three channels are rgb", {"channels": "rgb"}),
        ({"channels": 1}, "data.channels 1: one channel is gray", {"channels": "gray"}),
        ({"channels": 0}, "data.channels 0: allowed are rgb, gray and a number from 2, such as 4", {"channels": 4}),
        (
            {"channels": 4, "mean": [0.5], "std": [1.0] * 4},
            "data.mean [0.5]: allowed are auto and",
            {"mean": "auto", "std": None},
        ),
        ({"channels": "gray", "mean": [0.5]}, "data.mean [0.5]: mean and std go together", {"mean": "auto"}),
        (
            {"channels": "gray", "std": [0.0], "mean": [0.0]},
            "data.std [0.0]: allowed are auto and a number above 0",
            {"std": [1.0]},
        ),
        ({"channels": "gray", "auto_augment": "3a"}, "data.auto_augment 3a: it is for rgb", {"auto_augment": None}),
        ({"channels": 5, "color_jitter": 0.3}, "data.color_jitter 0.3: it is for rgb", {"color_jitter": 0.0}),
        ({"channels": 5, "augment_on": "device"}, "data.augment_on device: it is for rgb", {"augment_on": "workers"}),
        (
            {"channels": "gray", "streaming": True, "steps_per_epoch": 5},
            "data.mean auto: a stream (data.channels gray) can't be measured",
            {"mean": [0.5], "std": [0.2]},
        ),
    ],
)
def test_mistakes_and_what_cures_them(wrong, words, cure):
    with pytest.raises(UserError) as error:
        DataConfig(**wrong)
    assert words in str(error.value)
    DataConfig(**{**wrong, **cure})


def test_pictures_show_one_channel_as_gray_and_many_by_their_first_three():
    images = torch.randn(2, 5, 8, 8)
    assert viewable(images, (0.0,) * 5, (1.0,) * 5).shape == (2, 3, 8, 8)
    gray = viewable(images[:, :1] * 1000, (0.0,), (1.0,))
    assert (gray.min(), gray.max()) == (0, 1)
