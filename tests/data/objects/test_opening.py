"""Opening images with objects: every format gives the same rows, which are written once."""

import json
import multiprocessing
import os
import shutil
import signal
import time
from pathlib import Path

import datasets
import numpy as np
import pytest
from datasets import Dataset, DatasetDict, Features, concatenate_datasets

from shvit_pl.data.decoding import decode
from shvit_pl.data.objects import opening
from shvit_pl.data.objects.config import ObjectsConfig
from shvit_pl.data.objects.layout import FEATURES
from shvit_pl.data.objects.opening import open_objects
from tests.data.objects import formats
from tests.data.objects.formats import FORMATS, NAMES, SCENES, Scene, Thing, on_hub
from tests.refusals import refused

BOXES_ALONE = ("cppe-5", "detection-datasets/coco", "yolo boxes")
COARSE = ("ClownRat/COCO2017",)  # runs have whole pixels


def opened(path, **settings):
    return open_objects(ObjectsConfig(path=str(path), **settings))


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_same_rows(name, tmp_path):
    objects = opened(FORMATS[name](tmp_path))
    assert objects.class_names == list(NAMES)
    assert objects.has_masks == (name not in BOXES_ALONE)
    assert list(objects.splits) == list(SCENES)
    for split, scenes in SCENES.items():
        rows = objects.splits[split]
        assert rows.features == FEATURES
        assert [(row["width"], row["height"], row["rotate"]) for row in rows] == [(*s.size, False) for s in scenes]
        ids = [json.loads(image_id) for image_id in rows["image_id"][:]]
        if "yolo" in name:  # which has none
            assert [Path(image_id).name for image_id in ids] == [scene.name for scene in scenes]
        else:
            assert ids == [scene.number for scene in scenes]
        for row, scene in zip(rows, scenes, strict=True):
            found, things = row["objects"], scene.things
            assert decode(row["image"], "").shape[1:] == scene.size[::-1]
            assert found["bbox"] == [list(map(float, thing.box)) for thing in things]
            assert found["category"] == [thing.category for thing in things]
            assert found["iscrowd"] == [False] * len(things)
            if name == "yolo boxes":
                assert found["area"] == [thing.xywh[2] * thing.xywh[3] for thing in things]
            elif name not in COARSE:
                assert found["area"] == [thing.area for thing in things]
            polygons = [[thing.polygon] for thing in things] if objects.has_masks else [[]] * len(things)
            if name in COARSE:
                assert all(found["rle"])
                polygons = [[]] * len(things)
            assert found["polygons"] == polygons
            assert len(found["rle"]) == len(things)


def test_numbers_of_classes_are_the_datasets_own_or_the_place_among_known_ones(tmp_path):
    path = str(formats.roboflow(tmp_path))
    objects = open_objects(ObjectsConfig(path=path))
    assert (objects.class_names, objects.category_ids) == (list(NAMES), [1, 11, 21])
    known = ["dog", "cat", "bee", "ant"]
    objects = open_objects(ObjectsConfig(path=path), known)
    assert (objects.class_names, objects.category_ids) == (known, [22, 21, 11, 1])
    assert objects.splits["train"][0]["objects"]["category"] == [3, 1]
    objects = open_objects(ObjectsConfig(path=path), ["bee"])
    assert objects.class_names == list(NAMES)


def test_rows_are_written_once_until_files_or_settings_change(tmp_path, monkeypatch):
    path = formats.coco(tmp_path)
    first = opened(path)
    with monkeypatch.context() as patch:
        patch.setattr(opening, "judge", None)  # not called
        again = opened(path)
    assert (again.notes, again.counts, again.files) == (first.notes, first.counts, first.files)
    assert concatenate_datasets(list(again.splits.values()))[:] == concatenate_datasets(list(first.splits.values()))[:]
    file = path / "annotations" / "instances_val2017.json"
    file.write_text(file.read_text().replace('"cat"', '"cow"'))
    (path / "annotations" / "instances_train2017.json").write_text(
        (path / "annotations" / "instances_train2017.json").read_text().replace('"cat"', '"cow"')
    )
    assert opened(path).class_names == ["ant", "bee", "cow"]


def _open_slowly(path, ready):
    def judge(*_):
        ready.set()
        time.sleep(60)

    opening.judge = judge
    opened(path)


def _open(path, results):
    results.put(opened(path).splits["train"][0]["objects"]["bbox"])


def test_images_that_changed_are_read_anew(tmp_path):
    (tmp_path / "paths").mkdir()
    yolo, paths = formats.yolo_boxes(tmp_path / "yolo"), FORMATS["ClownRat/COCO2017"](tmp_path / "paths")
    assert opened(yolo).splits["train"][0]["objects"]["bbox"][0] == [8, 4, 24, 20]
    opened(paths)
    for file in (yolo / "images" / "train" / "0.png", tmp_path / "paths" / "sources" / "0.png"):
        formats.picture(file, Scene("0.png", [], size=(128, 64)))
    assert opened(yolo).splits["train"][0]["objects"]["bbox"][0] == [16, 8, 48, 40]
    with refused("2 masks do not fit: 64 x 32 pixels, and its image 128 x 64"):
        opened(paths)


@pytest.mark.parametrize("archive", ["train2017.zip", "old.parquet", "images.tar"])
def test_an_archive_beside_the_images_hides_none(archive, tmp_path):
    for write in (formats.coco, formats.yolo_boxes):
        folder = tmp_path / write.__name__
        folder.mkdir()
        (folder / archive).write_bytes(b"an archive")
        assert len(opened(write(folder)).splits["train"]) == 3


def test_a_killed_writer_leaves_nothing_and_two_at_once_agree(tmp_path):
    path, processes = formats.coco(tmp_path), multiprocessing.get_context("fork")
    ready, results = processes.Event(), processes.Queue()
    writer = processes.Process(target=_open_slowly, args=(path, ready))
    writer.start()
    assert ready.wait(30)
    os.kill(writer.pid, signal.SIGKILL)
    writer.join()
    readers = [processes.Process(target=_open, args=(path, results)) for _ in range(2)]
    for reader in readers:
        reader.start()
    boxes = [results.get(timeout=30) for _ in readers]
    for reader in readers:
        reader.join()
    assert boxes == [[list(thing.box) for thing in SCENES["train"][0].things]] * 2


@pytest.mark.parametrize(
    ("file", "images", "split"),
    [
        ("result.json", "images", "train"),
        ("labels.json", "data", "train"),
        ("annotations/instances_default.json", "images/default", "train"),
        ("annotations/val.json", "images/val", "validation"),
        ("annotations/birds.json", "images", "train"),
        ("_annotations.coco.json", "", "train"),
    ],
)
def test_other_names_of_files_of_coco(file, images, split, tmp_path):
    for scene in SCENES["train"]:
        formats.picture(tmp_path / images / scene.name, scene)
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text(json.dumps(formats.coco_json(SCENES["train"])))
    assert {name: len(rows) for name, rows in opened(tmp_path).splits.items()} == {split: 3}


def roboflow_yolo(folder):
    """Its entries lead out of the folder, and one to nothing."""
    formats.yolo(folder)
    for old, new in (("train", "train"), ("val", "valid")):
        for kind in ("images", "labels"):
            (folder / new).mkdir(exist_ok=True)
            (folder / kind / old).rename(folder / new / kind)
    sets = "train: ../train/images\nval: ../valid/images\ntest: ../test/images\n"
    (folder / "data.yaml").write_text(f"{sets}nc: 3\nnames: {list(NAMES)}\n")
    return folder


def listed_yolo(folder):
    formats.yolo(folder)
    (folder / "train.txt").write_text("".join(f"./images/train/{number}.png\n" for number in range(3)))
    (folder / "data.yaml").write_text("train: train.txt\nval: [images/val]\nnames: {0: ant, 1: bee, 2: cat}\n")
    return folder / "data.yaml"


@pytest.mark.parametrize("write", [roboflow_yolo, listed_yolo])
def test_other_folders_of_yolo(write, tmp_path):
    objects = opened(write(tmp_path))
    assert {name: len(rows) for name, rows in objects.splits.items()} == {"train": 3, "validation": 1}
    assert objects.counts["boxes"] == 4


def test_one_metadata_for_all_splits_and_columns_without_a_common_one(tmp_path):
    lines = []
    for split in formats.metadata(tmp_path) and SCENES:
        file = tmp_path / split / "metadata.jsonl"
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        lines += [{"file_name": f"{split}/{row['file_name']}", **row["objects"]} for row in rows]
        file.unlink()
    (tmp_path / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))
    objects = opened(tmp_path)
    assert {name: len(rows) for name, rows in objects.splits.items()} == {"train": 3, "validation": 1}
    assert (objects.counts["boxes"], objects.has_masks) == (4, True)


def test_lines_without_objects_are_background(tmp_path):
    file = formats.metadata(tmp_path) / "train" / "metadata.jsonl"
    first, *_ = file.read_text().splitlines()
    file.write_text("\n".join(['{"file_name": "1.png"}', '{"file_name": "2.png", "objects": null}', first]))
    counts = opened(tmp_path).counts
    assert (counts["images"], counts["images without objects"], counts["boxes"]) == (4, 2, 3)


@pytest.mark.parametrize(
    ("name", "make", "names"),
    [
        ("rishitdagli/cppe-5", formats.cppe5, {"validation": "test"}),
        ("detection-datasets/coco", formats.detection_datasets_coco, {"validation": "val"}),
        ("ClownRat/COCO2017", formats.clown_rat, {}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_datasets_of_the_hub(name, make, names, hub, tmp_path):
    commit = on_hub(hub, name, make(tmp_path), **names)
    other = "test" if names.get("validation") == "test" else "validation"
    for _ in range(2):
        objects = opened(name)
        assert objects.commit == commit
        assert list(objects.splits) == ["train", other]
        boxes = [row["objects"]["bbox"] for row in objects.splits["train"]]
        assert boxes == [[list(thing.box) for thing in scene.things] for scene in SCENES["train"]]
        assert decode(objects.splits["train"][1]["image"], "").shape == (3, 32, 64)


LARGE = {"train": [Scene("0.png", [Thing((2, 2, 60, 28)), Thing((1, 1, 62, 30))]), Scene("1.png", [])]}


def no_areas(folder, scenes):
    splits = formats.detection_datasets_coco(folder, scenes)
    kinds = dict(splits["train"].features["objects"])
    del kinds["area"]
    features = Features({**splits["train"].features, "objects": kinds})
    rows = [{**row, "objects": {name: row["objects"][name] for name in kinds}} for row in splits["train"].to_list()]
    return {"train": Dataset.from_list(rows, features=features)}


def test_a_known_dataset_of_the_hub_decides_what_boxes_do_not(hub, tmp_path):
    on_hub(hub, "detection-datasets/coco", no_areas(tmp_path, LARGE))
    on_hub(hub, "user/others", no_areas(tmp_path, LARGE))
    notes = opened("detection-datasets/coco").notes
    assert any("xyxy (as detection-datasets/coco has it; " in note for note in notes)
    with refused("data.box_format auto: the boxes could be"):
        opened("user/others")
    assert opened("user/others", box_format="xyxy").splits["train"][0]["objects"]["bbox"][0] == [2, 2, 60, 28]


def test_paths_that_lead_nowhere_are_refused(hub, tmp_path):
    on_hub(hub, "ClownRat/COCO2017", formats.clown_rat(tmp_path))
    shutil.rmtree(tmp_path / "sources")
    with refused("data.path: 4 of 4 images are not there"):
        opened("ClownRat/COCO2017")


def test_a_saved_dataset_and_one_file_are_opened(tmp_path):
    splits = formats.plain(tmp_path)
    DatasetDict(splits).save_to_disk(tmp_path / "saved")
    splits["train"].to_parquet(tmp_path / "one.parquet")
    assert list(opened(tmp_path / "saved").splits) == ["train", "validation"]
    assert opened(tmp_path / "one.parquet").counts["images"] == 3


def test_a_cache_that_can_not_be_written_is_named(tmp_path, monkeypatch):
    path = formats.coco(tmp_path)
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "file" / "cache")
    with refused("HF_HOME: the cache of datasets"):
        opened(path)


def test_images_of_parquet_are_not_copied(tmp_path):
    path = FORMATS["cppe-5"](tmp_path)
    objects = opened(path)
    own = [file for file in objects.splits["train"].cache_files if "shvit_pl_objects" in file["filename"]]
    assert len(own) == 1
    assert b"PNG" not in Path(own[0]["filename"]).read_bytes()
    assert np.asarray(decode(objects.splits["train"][2]["image"], "")).shape == (3, 32, 64)
