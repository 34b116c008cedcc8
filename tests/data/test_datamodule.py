"""Images from everywhere become batches; broken ones are skipped, counted and named."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from shvit_pl import ClassificationModule, HFImageDataModule
from shvit_pl.data.base import BrokenImages
from shvit_pl.errors import UserError
from shvit_pl.runs.folder import read_summary
from tests.cli.runs import fit, only_run
from tests.data import pictures
from tests.data.pictures import encoded, open_dataset, photo, ready, stored_rows


def test_the_embedded_digits_are_scikit_learns_and_normalization_is_imagenets():
    rows, digits = open_dataset("digits")["train"], load_digits()
    assert rows["label"][:] == digits.target.tolist()
    pixels = np.stack([np.asarray(image) for image in rows["image"][:]])
    assert np.abs(pixels / 255 * 16 - digits.images).max() < 0.04
    assert (HFImageDataModule().mean, HFImageDataModule().std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def test_a_folder_of_images_gives_the_folder_names_as_classes(image_folder):
    data = ready(path=str(image_folder))
    assert data.class_names == ["blue", "red"]
    batch = data.on_after_batch_transfer(next(iter(data.val_dataloader())), 0)
    for image, label, file in zip(batch["image"], batch["label"], batch["file"], strict=True):
        name = data.class_names[label]
        assert name in file
        assert image.argmax(0).flatten().mode().values == (0 if name == "red" else 2)


def test_training_images_depend_on_seed_and_epoch_and_not_on_workers():
    def images(workers, epoch, seed=0):
        data = ready(batch_size=8, augment="shift", num_workers=workers, train_fraction=0.05)
        data.seed = seed
        loader = data.train_dataloader()
        loader.sampler.set_epoch(epoch)
        return torch.cat([batch["image"] for batch in loader])

    reference = images(workers=0, epoch=0)
    assert torch.equal(images(workers=2, epoch=0), reference)
    assert not torch.equal(images(workers=0, epoch=1), reference)
    assert not torch.equal(images(workers=0, epoch=0, seed=1), reference)


def test_a_sample_of_images_to_validate_with_is_evenly_spaced_and_normalized():
    data = ready()
    labels = data.chosen.by_stage["validate"]["label"][:]
    spaced = torch.linspace(0, len(labels) - 1, 100).long()
    sample = torch.cat([batch["label"] for batch in data.validation_sample(100)])
    assert sample.tolist() == [labels[index] for index in spaced]
    whole = torch.cat([batch["image"] for batch in data.validation_sample(10_000)])
    stored = torch.cat([data.on_after_batch_transfer(batch, 0)["image"] for batch in data.val_dataloader()])
    assert torch.equal(whole, stored)


# ---- broken images


def with_broken(folder, number, count, image=b"torn"):
    """A file of small pictures, of which one is broken; a fifth of them is held out."""
    images = [encoded(photo(16, 16, seed), "PNG") for seed in range(count)]
    images[number] = image
    stored_rows(images, [row % 2 for row in range(count)]).to_parquet(str(folder / "rows.parquet"))
    return str(folder / "rows.parquet")


def test_few_broken_images_of_a_run_are_named_once_and_counted(tmp_path, capsys, caplog):
    path = with_broken(tmp_path, 5, 320)
    whole = ["--trainer.limit_train_batches=1000", "--trainer.limit_val_batches=1000"]
    assert fit(*whole, f"--data.path={path}") == 0
    assert caplog.text.count("5.png") == 1
    summary = read_summary(only_run(tmp_path))
    assert summary["broken_images"] == 1
    assert summary["steps_trained"] == 2 * (256 // 16)  # batches keep their size
    assert "broken images" in capsys.readouterr().out


@pytest.mark.parametrize("image", [b"torn", None], ids=["torn", "no image"])
def test_a_broken_image_of_training_is_replaced_by_the_next_whole_one(image, tmp_path):
    path = with_broken(tmp_path, 5, 150, image)
    batches = list(ready(path=path, batch_size=10, augment="none", validation_fraction=0.02).train_dataloader())
    ((batch, place),) = [(batch, n) for batch in batches for n, reason in enumerate(batch["broken"]) if reason]
    assert batch["image"][place].float().std() > 0
    assert batch["label"][place] >= 0
    assert all(len(batch["label"]) == 10 for batch in batches)


def test_broken_images_count_in_no_metric_and_are_left_out_of_predictions(tmp_path):
    data = ready("validate", path=with_broken(tmp_path, 3, 8), batch_size=8, image_size=64)
    (batch,) = data.val_dataloader()
    assert batch["label"].tolist() == [0, 1, 0, -1, 0, 1, 0, 1]  # -1 changes no metric: tests/modules
    assert not batch["image"][3].any()
    module = ClassificationModule(design={"name": "tiny"}, class_names=["a", "b"]).eval()
    answer = module.predict_step(data.on_after_batch_transfer(batch, 0), 0)
    assert [file for file in batch["file"] if file not in answer["file"]] == ["3.png"]
    assert len(answer["probabilities"]) == len(answer["file"]) == 7


def test_the_share_of_broken_images_is_of_the_split_and_of_a_streams_epoch(tmp_path):
    """Neither of the part that is held out or that a process reads, nor of the images read so far."""
    torn = {number: f"{number}.png: torn." for number in range(4)}
    data = ready(path=with_broken(tmp_path, 5, 150), batch_size=10)
    data.val_dataloader()
    data.broken["validate"].count([torn[0]])  # of 30 images, but of 150 in the split
    data.train_dataloader()
    with pytest.raises(UserError, match=r"at least 2 of 150 images .* 0.png: torn; 1.png: torn\."):
        data.broken["train"].count([torn[1]])
    pictures.parquet(pictures.rows([0, 1] * 6), validation=pictures.rows([0, 1]))(tmp_path)
    (tmp_path / "rows.parquet").unlink()
    stream = ready(path=str(tmp_path), streaming=True, steps_per_epoch=30, batch_size=10)
    stream.train_dataloader()
    stream.broken["train"].count([torn[0], torn[1], torn[2]])
    with pytest.raises(UserError, match="at least 4 of 300 images"):
        stream.broken["train"].count([torn[3]])
    stream.val_dataloader()
    with pytest.raises(UserError, match="at least 2 of 100 images"):
        stream.broken["validate"].count([torn[0], torn[1]])


@pytest.mark.parametrize("total", [320, None], ids=["stored", "streamed"])
def test_more_than_one_in_a_hundred_stops_the_run_with_their_names_and_each_counts_once(total, caplog):
    broken = BrokenImages(total)
    for _ in range(3):  # epochs
        broken.count(["", "1.png: torn."] + [""] * 62)
    assert list(broken.reasons) == ["1.png: torn."]
    assert caplog.text.count("1.png") == 1
    refused = r"^data.path: .* of .* images can't be decoded, and more than 1% stops a run: "
    with pytest.raises(UserError, match=refused + "1.png: torn; 2.png: torn; 3.png: torn. Repair"):
        broken.count([f"{number}.png: torn." for number in range(2, 10)])
