"""Opening datasets from wherever they are."""

import shutil
import socket

import datasets
import pytest
from datasets import ClassLabel, DatasetDict, Image, Value
from huggingface_hub import close_session, constants
from PIL import Image as PILImage

from shvit_pl import hub_errors
from tests.data import pictures
from tests.data.pictures import open_dataset
from tests.hub_server import HubServer


def rows(count):
    return pictures.rows([number % 2 for number in range(count)])


SPLITS = {"train": rows(12), "validation": rows(4)}


def parquet_folder(folder):
    for split, data in SPLITS.items():
        data.to_parquet(folder / f"{split}.parquet")


def sharded_parquet_folder(folder):
    for number in range(3):
        rows(4).to_parquet(folder / f"train-0000{number}-of-00003.parquet")
    rows(4).to_parquet(folder / "validation-00000-of-00001.parquet")


def arrow_folder(folder):
    for split, data in SPLITS.items():
        data.save_to_disk(folder / "written")
        (file,) = (folder / "written").glob("*.arrow")
        file.rename(folder / f"{split}.arrow")
        shutil.rmtree(folder / "written")


def saved_folder(folder):
    DatasetDict(SPLITS).save_to_disk(folder)


def image_folder(folder):
    for split, data in SPLITS.items():
        for label in ("a", "b"):
            (folder / split / label).mkdir(parents=True)
            for number in range(len(data) // 2):
                PILImage.new("RGB", (8, 8)).save(folder / split / label / f"{number}.png")


def folder_with_named_classes(folder):
    """In its README; its rows have numbers."""
    for split, data in SPLITS.items():
        data.cast_column("label", Value("int64")).to_parquet(folder / f"{split}.parquet")
    header = "dataset_info:\n  features:\n  - {name: image, dtype: image}\n"
    header += "  - name: label\n    dtype: {class_label: {names: {'0': a, '1': b}}}\n"
    (folder / "README.md").write_text(f"---\n{header}---\n")


FOLDERS = [parquet_folder, sharded_parquet_folder, arrow_folder, saved_folder, image_folder, folder_with_named_classes]


@pytest.mark.parametrize("write", FOLDERS)
def test_a_folder_with_two_splits(write, tmp_path):
    write(tmp_path)
    splits = open_dataset(str(tmp_path))
    assert {name: len(split) for name, split in splits.items()} == {"train": 12, "validation": 4}
    for split in splits.values():
        assert isinstance(split.features["image"], Image)
        assert split.features["label"] == ClassLabel(names=["a", "b"])


def test_one_file_of_parquet_or_arrow_is_the_training_split(tmp_path):
    rows(12).to_parquet(tmp_path / "rows.parquet")
    rows(12).save_to_disk(tmp_path / "saved")
    (arrow,) = (tmp_path / "saved").glob("*.arrow")
    for path in (tmp_path / "rows.parquet", arrow, tmp_path / "saved"):
        assert {name: len(split) for name, split in open_dataset(str(path)).items()} == {"train": 12}


def test_a_configuration_of_a_folder_is_chosen_by_name(tmp_path):
    counts = {"small": 4, "large": 12}
    for name, count in counts.items():
        (tmp_path / name).mkdir()
        rows(count).to_parquet(tmp_path / name / "train.parquet")
    header = "".join(f"- {{config_name: {name}, data_dir: {name}}}\n" for name in counts)
    (tmp_path / "README.md").write_text(f"---\nconfigs:\n{header}---\n")
    assert {name: len(open_dataset(str(tmp_path), name)["train"]) for name in counts} == counts


def test_a_changed_folder_is_read_anew(tmp_path):
    image_folder(tmp_path)
    assert len(open_dataset(str(tmp_path))["train"]) == 12
    (tmp_path / "train" / "a" / "0.png").unlink()
    assert len(open_dataset(str(tmp_path))["train"]) == 11


def test_a_proxy_is_used_and_a_hub_that_says_nothing_is_out_of_reach(monkeypatch):
    reachable = hub_errors.hub_reachable.__wrapped__
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://hub.invalid")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(hub_errors, "_ANSWER_S", 0.2)
    with monkeypatch.context() as patch:
        patch.setenv("no_proxy", "")
        with HubServer() as proxy:
            patch.setenv("http_proxy", proxy.url)
            close_session()  # the client reads the environment for each
            assert reachable()
        assert not reachable()
    close_session()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        assert not reachable()
