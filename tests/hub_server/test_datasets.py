"""Datasets go to the Hub of the tests and come back, by the real client."""

import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, load_dataset
from PIL import Image as PILImage

NAMES = ["red", "blue"]


@pytest.fixture
def pictures():
    """Twelve images of two classes, and four to test on."""
    return DatasetDict(train=rows(12), test=rows(4))


def rows(count):
    images = [PILImage.new("RGB", (8, 8), (number, 0, 0)) for number in range(count)]
    features = Features({"image": Image(), "label": ClassLabel(names=NAMES)})
    return Dataset.from_dict({"image": images, "label": [n % 2 for n in range(count)]}, features=features)


def reds(dataset):
    return [row["image"].getpixel((0, 0))[0] for row in dataset]


def test_a_dataset_goes_to_the_hub_and_back(hub, pictures):
    pictures.push_to_hub("user/pictures")
    files = hub.repo("user/pictures", "datasets").files
    assert {name for name in files if name.endswith(".parquet")} == {
        "data/train-00000-of-00001.parquet",
        "data/test-00000-of-00001.parquet",
    }
    back = load_dataset("user/pictures")
    assert {split: len(part) for split, part in back.items()} == {"train": 12, "test": 4}
    assert back["train"].features["label"].names == NAMES
    assert reds(back["train"]) == list(range(12))


def test_a_dataset_is_streamed(hub, pictures):
    pictures.push_to_hub("user/pictures")
    stream = load_dataset("user/pictures", split="train", streaming=True)
    assert reds(stream) == list(range(12))


def test_a_revision_is_another_dataset(hub, pictures):
    pictures.push_to_hub("user/pictures")
    old = hub.repo("user/pictures", "datasets").branches["main"]
    DatasetDict(train=rows(3)).push_to_hub("user/pictures", revision="small")
    assert len(load_dataset("user/pictures", revision="small", split="train")) == 3
    assert len(load_dataset("user/pictures", revision=old, split="train")) == 12
    assert len(load_dataset("user/pictures", split="train")) == 12
