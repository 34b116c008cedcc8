"""Which rows train, validate and test."""

import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image
from PIL import Image as PILImage

from shvit_pl import HFImageDataModule
from shvit_pl.data.rows import divide


def rows(labels, names="ab"):
    features = Features({"image": Image(), "label": ClassLabel(names=list(names))})
    return Dataset.from_dict({"image": [PILImage.new("RGB", (8, 8))] * len(labels), "label": labels}, features=features)


def ready(folder, splits, **settings):
    DatasetDict(splits).save_to_disk(folder)
    data = HFImageDataModule(path=str(folder), image_size=32, batch_size=4, num_workers=0, **settings)
    data.setup("fit")
    return data


def test_a_test_split_without_labels_is_not_tested_on_and_the_run_says_so(tmp_path):
    data = ready(tmp_path, {"train": rows([0, 1] * 6), "val": rows([0, 1]), "test": rows([-1] * 3)})
    assert (data.rows("train"), data.rows("validate"), data.rows("test")) == (12, 2, 2)
    assert data.split_note == "validation on the split 'val'; the split 'test' has no labels and is left out"


def test_a_validation_split_without_labels_is_replaced_by_a_share_and_the_run_says_so(tmp_path):
    data = ready(tmp_path, {"train": rows([0, 1] * 10), "validation": rows([-1] * 3)})
    assert (data.rows("train"), data.rows("validate")) == (16, 4)
    assert data.split_note.startswith("no validation split: 20% of 'train' held out")
    assert data.split_note.endswith("the split 'validation' has no labels and is left out")


def test_a_split_that_is_not_used_may_hold_anything(tmp_path):
    splits = {"train": rows([0, 1] * 10), "unlabeled": rows([-1, 0] * 3), "extra": rows([2], "xyz")}
    data = ready(tmp_path, splits)
    assert (data.rows("train"), data.rows("validate"), data.class_names) == (16, 4, ["a", "b"])


def test_the_splits_are_those_that_are_named(tmp_path):
    splits = {"train": rows([0]), "validation": rows([0]), "full": rows([0, 1] * 6), "held": rows([0, 1] * 2)}
    data = ready(tmp_path, splits, train_split="full", validation_split="held")
    assert (data.rows("train"), data.rows("validate")) == (12, 4)
    assert data.split_note == "validation on the split 'held'"


@pytest.mark.parametrize("seed", [0, 7])
def test_the_division_is_the_stratified_one_of_datasets(seed):
    data = rows([0] * 31 + [1] * 17 + [2] * 9, "abc")
    parts = data.train_test_split(test_size=0.3, seed=seed, stratify_by_column="label")
    kept, held_out = divide(data, 0.3, "label", seed)
    assert kept["label"][:] == parts["train"]["label"][:]
    assert kept._indices.equals(parts["train"]._indices)
    assert held_out._indices.equals(parts["test"]._indices)


def test_a_class_of_one_image_is_divided_without_shares():
    kept, held_out = divide(rows([0] * 9 + [1]), 0.2, "label", seed=0)
    assert (len(kept), len(held_out)) == (8, 2)
