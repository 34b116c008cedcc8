"""Written detections: what pycocotools loads is what was measured; and pictures of them."""

import csv
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask
from pycocotools.coco import COCO

from shvit_pl.callbacks.detections import DetectionsWriter
from shvit_pl.errors import UserError
from shvit_pl.modules.average_precision import AveragePrecision
from tests.modules.detections import CATEGORIES, NAMES, SIZE, by_pycocotools, coco_truth, hard_set

MODULE = SimpleNamespace(class_names=NAMES, category_ids=CATEGORIES, few_steps=[], best_score=0.6)
CONFIG = SimpleNamespace(path="pictures", exif_rotation="auto", intensity_range=None)
DATA = SimpleNamespace(mean=(0.5,) * 3, std=(0.25,) * 3, config=CONFIG)
TRAINER = SimpleNamespace(world_size=1, datamodule=DATA)


def batch_of(truth, broken=(), ids=True):
    """A batch of gray images at half the size, padded; `broken` are the images that can't be decoded."""
    return {
        "file": [f"folder/{each['file']}" for each in truth],
        "broken": [f"{each['file']}: truncated." if each["file"] in broken else "" for each in truth],
        "image_id": [each["image_id"] if ids else "" for each in truth],
        "size": [SIZE] * len(truth),
        "sizes": [(SIZE[0] // 2, SIZE[1] // 2)] * len(truth),
        "image": torch.zeros(len(truth), 3, 160, 192),
        "stored": [""] * len(truth),  # as of images that are drawn, or in a table
        "rotated": [False] * len(truth),
    }


def predict(writer, found, truth, broken=(), ids=True, at_once=5):
    writer.on_predict_start(TRAINER, MODULE)
    try:
        for first in range(0, len(truth), at_once):
            chosen = slice(first, first + at_once)
            batch = batch_of(truth[chosen], broken, ids)
            outputs = [each for each, bad in zip(found[chosen], batch["broken"], strict=True) if not bad]
            writer.on_predict_batch_end(TRAINER, MODULE, outputs, batch, 0)
        writer.on_predict_end(TRAINER, MODULE)
    except BaseException as error:
        writer.on_exception(TRAINER, MODULE, error)
        raise


def test_the_results_are_those_that_are_measured(tmp_path, capsys):
    found, truth = hard_set()
    metric = AveragePrecision(len(NAMES), masks=True)
    metric.update(found, truth)
    measured = metric.compute().metrics
    predict(DetectionsWriter(str(tmp_path / "out.json")), found, truth)
    assert [path.name for path in tmp_path.iterdir()] == ["out.json"]
    assert "detections in 12 images in " in capsys.readouterr().out
    boxes, _ = by_pycocotools(coco_truth(truth), str(tmp_path / "out.json"), "bbox")
    assert {name: measured[name] for name in boxes} == pytest.approx(boxes, abs=1e-6)
    masks, _ = by_pycocotools(coco_truth(truth), str(tmp_path / "out.json"), "segm")
    for name in ("map", "map_50", "map_75", "mar_100"):
        assert measured[f"mask_{name}"] == pytest.approx(masks[name], abs=1e-6)
    rows = json.loads((tmp_path / "out.json").read_text())
    masks, _ = by_pycocotools(coco_truth(truth), rows, "segm")  # without boxes: by the masks' areas
    assert {name: measured[f"mask_{name}"] for name in masks} == pytest.approx(masks, abs=1e-6)


def test_images_without_ids_are_numbered_and_listed_beside(tmp_path, capsys):
    found, truth = hard_set(4)
    for each in found:
        del each["rles"]
    predict(DetectionsWriter(str(tmp_path / "out.json")), found, truth, ["1.jpg"], ids=False, at_once=3)
    assert "in 3 images (ids are listed in out.images.json) in" in (shown := capsys.readouterr().out)
    assert "; 1 image can't be decoded: no detections (1.jpg: truncated)" in shown
    images = json.loads((tmp_path / "out.images.json").read_text())
    assert [(each["id"], each["file_name"]) for each in images] == [
        (1, "folder/0.jpg"),
        (3, "folder/2.jpg"),
        (4, "folder/3.jpg"),
    ]
    assert (images[0]["height"], images[0]["width"]) == SIZE
    categories = [{"id": number} for number in CATEGORIES]
    data = COCO()
    data.dataset = {"info": {}, "images": images, "annotations": [], "categories": categories}
    data.createIndex()
    assert len(data.loadRes(str(tmp_path / "out.json")).anns) == sum(len(found[index]["labels"]) for index in (0, 2, 3))


def test_a_csv_has_the_same_numbers(tmp_path):
    found, truth = hard_set(3)
    truth[0]["image_id"] = '"first"'
    predict(DetectionsWriter(str(tmp_path / "out.csv")), found, truth)
    predict(DetectionsWriter(str(tmp_path / "out.json")), found, truth)
    with (tmp_path / "out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row, result in zip(rows, json.loads((tmp_path / "out.json").read_text()), strict=True):
        assert [float(row[name]) for name in ("x", "y", "width", "height")] == result["bbox"]
        assert (row["image_id"], row["category_id"]) == (str(result["image_id"]), str(result["category_id"]))
        assert row["label"] == NAMES[CATEGORIES.index(result["category_id"])]
        assert mask.area(json.loads(row["segmentation"])) == mask.area(result["segmentation"])
    assert (rows[0]["file"], rows[0]["image_id"]) == ("folder/0.jpg", "first")


@pytest.mark.parametrize(("given", "least"), [(None, 0.6), (0.95, 0.95)])
def test_pictures_show_detections_above_the_score(given, least, tmp_path):
    found, truth = hard_set(3)
    truth[1]["file"] = "sub/0.png"
    predict(DetectionsWriter(str(tmp_path / "out.json"), draw=str(tmp_path / "drawn"), score=given), found, truth)
    assert {path.name for path in (tmp_path / "drawn").iterdir()} == {"0.png", "0_2.png", "2.png"}
    assert {path.name for path in tmp_path.iterdir()} == {"out.json", "drawn"}
    for name, each in zip(("0.png", "0_2.png", "2.png"), found, strict=True):
        picture = np.asarray(Image.open(tmp_path / "drawn" / name))
        assert picture.shape == (384, 512, 3)
        assert bool((picture != 128).any()) == bool((each["scores"] >= least).any())


def test_pictures_are_drawn_at_the_size_of_the_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found, truth = hard_set(2)
    (tmp_path / "folder").mkdir()
    Image.new("RGB", (900, 700), "red").save("folder/0.jpg")
    Image.new("RGB", (900, 700), "red").save("folder/1.jpg")  # of the same name as one in a table
    batch = batch_of(truth)
    batch["size"], batch["stored"] = [(700, 900), (350, 450)], ["folder/0.jpg", ""]
    writer = DetectionsWriter("out.json", draw="drawn", score=1.1)
    writer.on_predict_start(TRAINER, MODULE)
    writer.on_predict_batch_end(TRAINER, MODULE, found, batch, 0)
    writer.on_predict_end(TRAINER, MODULE)
    first, second = (np.asarray(Image.open(tmp_path / "drawn" / name)) for name in ("0.png", "1.png"))
    assert first.shape == (700, 900, 3)
    assert first[..., 0].min() > 250 > 5 > first[..., 1:].max()
    assert (second == 128).all()


def test_pictures_are_turned_as_the_network_saw_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found, truth = hard_set(2)
    exif, half = Image.Exif(), Image.new("RGB", (640, 640), "white")
    exif[0x0112] = 3
    half.paste("black", (0, 0, 640, 320))
    half.save("0.jpg", exif=exif)
    batch = batch_of(truth)
    batch |= {"size": [(640, 640)] * 2, "stored": ["0.jpg"] * 2, "rotated": [True, False]}
    writer = DetectionsWriter("out.json", draw="drawn", score=1.1)
    writer.on_predict_start(TRAINER, MODULE)
    writer.on_predict_batch_end(TRAINER, MODULE, found, batch, 0)
    writer.on_predict_end(TRAINER, MODULE)
    turned, stored = (np.asarray(Image.open(tmp_path / "drawn" / name)) for name in ("0.png", "1.png"))
    assert turned[:300].mean() > 250 > 5 > turned[340:].mean()
    assert stored[:300].mean() < 5 < 250 < stored[340:].mean()


@pytest.mark.parametrize(("broken", "strict"), [(["0.jpg", "1.jpg", "2.jpg"], False), (["1.jpg"], True)])
def test_nothing_is_left_where_nothing_may_be_written(broken, strict, tmp_path):
    found, truth = hard_set(3)
    writer = DetectionsWriter(str(tmp_path / "out.json"), strict, draw=str(tmp_path / "drawn"))
    with pytest.raises(UserError, match=rf"data.path 'pictures': {len(broken)} of 3 images can't be decoded"):
        predict(writer, found, truth, broken)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_files_is_not_drawn_into(tmp_path):
    (tmp_path / "drawn").mkdir()
    (tmp_path / "drawn" / "mine.txt").touch()
    for name, reason in (("drawn", "already contains files"), ("drawn/mine.txt", "is a file")):
        with pytest.raises(UserError, match=f"{name}': {reason}; give a new folder"):
            DetectionsWriter(str(tmp_path / "out.json"), draw=str(tmp_path / name))
    assert [path.name for path in tmp_path.iterdir()] == ["drawn"]


def test_other_kinds_of_files_are_refused():
    with pytest.raises(UserError, match=r"output 'found.txt': allowed are files that end in .json .* or .csv"):
        DetectionsWriter("found.txt")
