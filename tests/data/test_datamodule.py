"""Data from everywhere, with nothing guessed."""

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, Value
from PIL import Image as PILImage
from sklearn.datasets import load_digits

from shvit_pl import HFImageDataModule
from tests.data.opening import open_dataset


def picture(shade=0):
    return PILImage.new("RGB", (16, 16), (shade, 0, 0))


def dataset(labels, **features):
    rows = {"image": [picture(n) for n in range(len(labels))], "label": labels}
    return Dataset.from_dict(rows, features=Features({"image": Image(), **features}))


def ready(**settings):
    data = HFImageDataModule(image_size=32, batch_size=4, num_workers=0, **settings)
    data.setup("fit")
    return data


def test_the_embedded_digits_are_scikit_learns():
    rows, digits = open_dataset("digits")["train"], load_digits()
    assert len(rows) == 1797
    assert rows["label"][:] == digits.target.tolist()
    pixels = np.stack([np.asarray(image) for image in rows["image"][:]])
    assert np.abs(pixels / 255 * 16 - digits.images).max() < 0.04


def test_the_validation_share_is_stratified_seeded_and_said_aloud():
    first, again = ready(), ready()
    assert (first.rows("train"), first.rows("validate")) == (1437, 360)
    assert "20% of 'train' held out (seed 0)" in first.split_note
    assert first.chosen.by_stage["validate"]["label"][:] == again.chosen.by_stage["validate"]["label"][:]
    assert first.chosen.by_stage["validate"]["label"][:] != ready(split_seed=1).chosen.by_stage["validate"]["label"][:]
    counts = np.bincount(first.chosen.by_stage["validate"]["label"][:])
    assert counts.min() >= 34


def test_a_train_fraction_keeps_the_validation_images():
    part = ready(train_fraction=0.1)
    assert (part.rows("train"), part.rows("validate")) == (144, 360)


def test_a_folder_of_images_gives_the_folder_names_as_classes(image_folder):
    data = ready(path=str(image_folder))
    assert data.class_names == ["blue", "red"]
    batch = data.on_after_batch_transfer(next(iter(data.val_dataloader())), 0)
    for image, label, file in zip(batch["image"], batch["label"], batch["file"], strict=True):
        name = data.class_names[label]
        assert name in file
        assert image.argmax(0).flatten().mode().values == (0 if name == "red" else 2)


def test_parquet_arrow_and_saved_datasets_open_alike(tmp_path):
    rows = dataset([0, 1] * 6, label=ClassLabel(names=["a", "b"]))
    rows.to_parquet(tmp_path / "rows.parquet")
    (tmp_path / "folder").mkdir()
    rows.to_parquet(tmp_path / "folder" / "train-00000.parquet")
    rows.save_to_disk(tmp_path / "saved")
    (arrow,) = (tmp_path / "saved").glob("*.arrow")
    for path in (tmp_path / "rows.parquet", tmp_path / "folder", tmp_path / "saved", arrow):
        data = ready(path=str(path))
        assert (data.class_names, data.rows("train") + data.rows("validate")) == (["a", "b"], 12)


def test_text_labels_become_classes(tmp_path):
    dataset(["cat", "dog"] * 6, label=Value("string")).to_parquet(tmp_path / "rows.parquet")
    assert ready(path=str(tmp_path / "rows.parquet")).class_names == ["cat", "dog"]


def test_indices_without_names_stay_the_indices(tmp_path):
    dataset(list(range(12)) * 5, label=Value("int64")).to_parquet(tmp_path / "rows.parquet")
    data = ready(path=str(tmp_path / "rows.parquet"))
    assert data.class_names == [str(index) for index in range(12)]


def test_images_without_labels_say_how_to_label_them(tmp_path):
    (tmp_path / "images").mkdir()
    for number in range(4):
        picture(number).save(tmp_path / "images" / f"{number}.png")
    with pytest.raises(ValueError, match="one folder per class"):
        ready(path=str(tmp_path / "images"))


def test_a_validation_split_is_used_where_there_is_one(tmp_path):
    label = ClassLabel(names=["a", "b"])
    splits = DatasetDict(train=dataset([0, 1] * 6, label=label), val=dataset([0, 1] * 2, label=label))
    splits.save_to_disk(tmp_path / "saved")
    data = ready(path=str(tmp_path / "saved"))
    assert (data.rows("train"), data.rows("validate"), data.split_note) == (12, 4, "validation on the split 'val'")


def test_a_test_split_is_kept_for_testing(tmp_path):
    label = ClassLabel(names=["a", "b"])
    DatasetDict(train=dataset([0, 1] * 10, label=label), test=dataset([0, 1] * 3, label=label)).save_to_disk(
        tmp_path / "d"
    )
    data = ready(path=str(tmp_path / "d"))
    assert (data.rows("train"), data.rows("validate"), data.rows("test")) == (16, 4, 6)


def test_two_columns_of_labels_are_a_choice_for_the_user(tmp_path):
    rows = dataset([0, 1] * 6, label=ClassLabel(names=["a", "b"])).add_column("fine", [0, 1] * 6)
    rows.cast_column("fine", ClassLabel(names=["x", "y"])).to_parquet(tmp_path / "rows.parquet")
    with pytest.raises(ValueError, match=r"data.label_column: several columns.*label, fine"):
        ready(path=str(tmp_path / "rows.parquet"))
    assert ready(path=str(tmp_path / "rows.parquet"), label_column="fine").class_names == ["x", "y"]


def test_splits_with_different_classes_are_refused(tmp_path):
    train, validation = (dataset([0, 1] * 6, label=ClassLabel(names=names)) for names in (["a", "b"], ["a", "c"]))
    DatasetDict(train=train, validation=validation).save_to_disk(tmp_path / "saved")
    with pytest.raises(ValueError, match=r"different classes.*b, c"):
        ready(path=str(tmp_path / "saved"))


def test_training_images_depend_on_seed_and_epoch_and_not_on_workers():
    def images(workers, epoch, seed=0):
        data = HFImageDataModule(image_size=32, batch_size=8, augment="shift", num_workers=workers, train_fraction=0.05)
        data.seed = seed
        data.setup("fit")
        loader = data.train_dataloader()
        loader.sampler.set_epoch(epoch)
        return torch.cat([batch["image"] for batch in loader])

    reference = images(workers=0, epoch=0)
    assert torch.equal(images(workers=2, epoch=0), reference)
    assert not torch.equal(images(workers=0, epoch=1), reference)
    assert not torch.equal(images(workers=0, epoch=0, seed=1), reference)


def test_every_epoch_sees_every_image_once():
    data = HFImageDataModule(batch_size=8, num_workers=0)
    data.setup("fit")
    sampler = data.train_dataloader().sampler
    orders = []
    for epoch in range(2):
        sampler.set_epoch(epoch)
        orders.append([draw.row for draw in sampler])
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(1437))
    assert orders[0] != orders[1]


def test_normalization_is_imagenets():
    assert (HFImageDataModule().mean, HFImageDataModule().std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
