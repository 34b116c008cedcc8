"""Detection from the command line: training, resuming, measuring and predicting, on scenes and on small datasets."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from shvit_pl import load
from shvit_pl.cli import main
from shvit_pl.designs.detector import DetectorConfig
from shvit_pl.models.detection.detectors import build_detector, ids_and_scores, open_detector, save_detector
from shvit_pl.runs.folder import read_summary
from tests.cli.runs import MASKS, SCENES, assert_same, content, metrics, needs_two_cores, stopped_by, weights
from tests.cli.runs import SMALL_DETECTOR as SMALL
from tests.data.objects import formats
from tests.refusals import refused

COCO_SET = [*SMALL, "--data.batch_size=2", "--data.min_size=64", "--data.max_size=128"]

HARD = [  # an image without objects, a crowd, and masks smaller than their boxes
    *formats.SCENES["train"],
    formats.Scene(
        "5.png",
        [
            formats.Thing((8, 8, 40, 40), 0),
            formats.Thing((0, 0, 64, 30), 0, crowd=1),
            formats.Thing((4, 40, 20, 60), 2, polygon=[4, 40, 20, 60, 4, 60]),
        ],
        (64, 64),
    ),
]


def fit(*flags):
    return main(["fit", *flags])


@pytest.fixture
def run(detector_run):
    """A run on scenes."""
    return detector_run


def test_a_run_leaves_what_is_known_of_it(run):
    summary = read_summary(run)
    assert summary["task"] == "detection"
    assert summary["monitor"] == "val/map"
    assert {"val/map", "val/map_50", "val/map_ema", "val/mar_100"} <= summary["metrics"].keys()
    assert summary["params"] == sum(part["params"] for part in summary["parts"].values())
    assert summary["class_ap"].keys() == set("0123456789")
    assert summary["dataset"]["category_ids"] == list(range(10))
    assert {path.name for path in (run / "figures").iterdir()} == {
        *("inputs.png", "curves.png", "detections.png", "class_ap.png", "precision_recall.png", "class_ap.csv")
    }
    recall = summary["anchor_recall"]
    assert recall["by_class"].keys() == set("0123456789")
    assert min(recall["by_class"].values()) <= recall["all"] <= max(recall["by_class"].values()) <= 1
    saved = content(run, "best")
    assert saved["task"] == "detection"
    assert saved["best_scores"].keys() == {"val", "val_ema"}
    assert "train/loss_bbox_regression" in (run / "metrics.csv").read_text().splitlines()[0]


@pytest.mark.full
@pytest.mark.parametrize(
    ("name", "least"),
    [
        ("retinanet_tiny", {"val/map": 0.6, "val/map_50": 0.82}),
        ("mask_rcnn_tiny", {"val/map": 0.58, "val/mask_map": 0.4}),
    ],
)
def test_a_small_detector_finds_the_digits(name, least, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert fit(f"--config=detection/{name}.yaml") == 0
    found = read_summary(tmp_path / "runs" / "tiny" / "version_0")["metrics"]
    assert {metric: found[metric] for metric, value in least.items() if found[metric] < value} == {}


def test_a_run_stopped_at_any_step_resumes_exactly(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    flags = [*SCENES, "--model.ema.decay=0.5", "--data.flip=0.5", "--data.scales=[96, 128]", "--data.num_workers=1"]
    flags += ["--checkpoint_every_n_steps=1"]
    assert fit(*flags, "--run_name=whole") == 0
    stopped_by(lambda: fit(*flags, "--run_name=cut"), epoch=1, batch=2)
    whole, cut = (tmp_path / "runs" / name / "version_0" for name in ("whole", "cut"))
    assert fit(f"--ckpt_path={cut}", "--plain") == 0
    assert_same(weights(whole), weights(cut))
    assert metrics(whole, "val/map") == metrics(cut, "val/map")
    assert read_summary(whole)["metrics"] == read_summary(cut)["metrics"]


@pytest.mark.parametrize("kind", ["boxes", "masks"])
def test_validate_and_the_file_of_predict_agree_with_pycocotools(kind, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    data = formats.coco(tmp_path / "data", {"train": formats.SCENES["train"], "validation": HARD})
    flags = [*COCO_SET, *(MASKS if kind == "masks" else []), "--trainer.max_epochs=8", "--model.detector.score=0.0"]
    assert fit(*flags, f"--data.path={data}", "--trainer.check_val_every_n_epoch=8") == 0
    assert "learned from batches of 2 images, which are few: better start from weights" in capsys.readouterr().out
    checkpoint = f"--ckpt_path={tmp_path / 'runs' / 'tiny' / 'version_0'}"
    assert main(["validate", checkpoint]) == 0
    content = json.loads((tmp_path / "metrics.json").read_text())
    measured = content["metrics"]
    assert main(["predict", checkpoint, f"--data.path={data}", "--data.validation_split=validation"]) == 0
    truth = COCO(str(data / "annotations" / "instances_val2017.json"))
    found = truth.loadRes(str(tmp_path / "predictions.json"))
    for iou_type, prefix in (("bbox", ""), ("segm", "mask_")) if kind == "masks" else (("bbox", ""),):
        evaluation = COCOeval(truth, found, iou_type)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
        expected = dict(zip(("map", "map_50", "map_75"), evaluation.stats, strict=False)) | {
            "mar_100": evaluation.stats[8]
        }
        for name, value in expected.items():
            assert measured[f"val/{prefix}{name}"] == pytest.approx(value, abs=1e-6), name
        precision = evaluation.eval["precision"][..., 0, 2]  # of all areas, by IoU, recall and class
        by_class = [of_class[of_class > -1].mean() for of_class in precision.transpose(2, 0, 1)]
        assert list(content[f"{prefix}class_ap"].values()) == pytest.approx(by_class, abs=1e-6)
    assert found.anns


@pytest.mark.slow
@needs_two_cores
def test_two_processes_measure_what_one_does_exactly(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = formats.coco(tmp_path / "data", {"train": formats.SCENES["train"], "validation": formats.SCENES["train"]})
    flags = [*COCO_SET, *MASKS, f"--data.path={data}", "--model.detector.score=0.0", "--data.batch_size=3"]
    assert fit(*flags, "--trainer.max_epochs=8", "--trainer.check_val_every_n_epoch=8") == 0
    measured = []
    for devices in ("1", "2"):  # of three images, two processes get four, one of which does not count
        command = ["validate", "--ckpt_path=runs/tiny/version_0", f"--trainer.devices={devices}", "--data.batch_size=1"]
        done = subprocess.run([sys.executable, "-m", "shvit_pl.cli", *command], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        measured.append(json.loads((tmp_path / "metrics.json").read_text()))
    assert measured[0]["metrics"] == measured[1]["metrics"]
    assert measured[0]["data"]["count"] == measured[1]["data"]["count"] == 3


def test_predict_draws_and_lists_images_without_ids(run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for scene in formats.SCENES["train"]:
        formats.picture(tmp_path / "images" / scene.name, scene)
    flags = [f"--ckpt_path={run}", f"--data.path={tmp_path / 'images'}", "--draw=drawn", "--output=found.json"]
    assert main(["predict", *flags]) == 0
    assert sorted(path.name for path in (tmp_path / "drawn").iterdir()) == ["0.png", "1.png", "2.png"]
    printed = capsys.readouterr().out
    assert "in 3 images (ids are listed in found.images.json) in found.json" in printed
    assert re.search(r"3 pictures of scores from 0\.\d+ in drawn", printed)
    listed = json.loads((tmp_path / "found.images.json").read_text())
    assert [each["id"] for each in listed] == [1, 2, 3]
    rows = json.loads((tmp_path / "found.json").read_text())
    assert {row["image_id"] for row in rows} == {1, 2, 3}
    assert {row["category_id"] for row in rows} <= set(range(10))


def test_a_score_is_for_drawing(run, line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["predict", f"--ckpt_path={run}", "--score=0.5"]) == 2
    assert "score 0.5: the least one that is drawn; give --draw FOLDER too" in line()


def test_predict_takes_an_image_alone(run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    formats.picture(tmp_path / "0.png", formats.SCENES["train"][0])
    assert main(["predict", f"--ckpt_path={run}", "--data.path=0.png", "--output=found.csv"]) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"0.png", "found.csv"}
    assert "annotations" not in capsys.readouterr().out


def test_other_scenes_are_tested_than_have_chosen_the_checkpoint(run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    measured = []
    for command, stage in (("validate", "val"), ("test", "test")):
        assert main([command, f"--ckpt_path={run}", f"--trainer.limit_{stage}_batches=2"]) == 0
        measured.append(json.loads((tmp_path / "metrics.json").read_text())["metrics"])
    assert "all 200 images of the split 'test'" in capsys.readouterr().out
    assert list(measured[0].values()) != list(measured[1].values())


def test_a_backbone_and_a_detector_with_other_classes_begin_a_run_and_what_is_fresh_is_said(
    run, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    data = formats.coco(tmp_path / "data")
    flags = [*COCO_SET, f"--data.path={data}", "--trainer.max_epochs=1"]
    assert fit(*flags, f"--model.init_from={run}", "--run_name=other") == 0
    printed = capsys.readouterr().out
    assert "the layers of classes (2 tensors; the source has other classes)" in printed
    assert "statistics kept as they are (model.freeze_bn auto)" in printed
    before, after = weights(run, "best"), weights(tmp_path / "runs" / "other" / "version_0")
    running = [key for key in before if "running_" in key and key.startswith("model.")]
    assert running
    for key in running:
        assert torch.equal(before[key], after[key]), key
    stem = "model.backbone.net.patch_embed.0.bn.weight"
    assert not torch.equal(before[stem], after[stem])


def test_a_detector_begins_no_classification(run, line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert fit("--config=tiny.yaml", f"--model.init_from={run}") == 2
    assert "a detector's weights. Give its backbone alone, as shvit-pl push --backbone writes it" in line()


def test_a_classifications_backbone_begins_a_detector(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    quick = ["--config=tiny.yaml", "--trainer.max_epochs=1", "--trainer.limit_train_batches=2"]
    assert fit(*quick, "--trainer.limit_val_batches=1", "--run_name=classes") == 0
    source = tmp_path / "runs" / "classes" / "version_0"
    assert fit(*SCENES, f"--model.init_from={source}", "--trainer.max_epochs=1") == 0
    assert "pyramid and heads (the source is a backbone); left out the classifier" in capsys.readouterr().out
    assert fit(*SCENES, f"--model.init_from={source}", "--model.design.name=s1") == 2
    assert "of another design" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["fit", "--task=detections"], "task 'detections': no such task (did you mean 'detection'?)"),
        (["fit", "--task=detection", "--model.mix.mixup=1"], "model.mix"),
        (["fit", "--model.detector.width=8"], "model.detector"),
        (["fit", *SMALL, "--data.min_size=900", "--data.max_size=800"], "data.max_size 800: allowed are whole numbers"),
        (["cache-teacher", *SMALL], "task detection: distillation is for classification"),
        (["fit", *SMALL, "--draw=a"], "draw a: for predict alone"),
        (["fit", *SMALL, "--data.augment=crop"], "--data.augment: no such flag of detection, but of classification"),
        (["fit", "--config=tiny.yaml", "--task=detection"], "data.image_size: no such setting of detection, but of"),
        (["fit", *SMALL, "--data.scales=[96, 200]"], "data.scales [96, 200]: allowed are sides up to data.max_size"),
        (["fit", *SMALL, "--monitor=val/acc1"], "monitor"),
        (["fit", *SMALL, "--data.path=digits"], "data.path digits: these images have no boxes. Give digit_scenes"),
        (["fit", *SMALL, "--data.path=./none"], "data.path './none': no such file or folder. Give digit_scenes"),
        (["fit", *SMALL, "--data.batch_size=1"], "data.batch_size 1: BatchNorm learns its statistics from 2 images"),
        (["fit", *SMALL, "--model.compile=true", "--data.scales=[96, 128]"], "model.compile true: with data.scales"),
        (["fit", *SMALL, "--model.optim.drops=[8, 3]"], "model.optim.drops [8, 3]: allowed are rising numbers"),
    ],
    ids=str,
)
def test_a_mistake_is_one_line(flags, message, line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(flags) == 2
    assert message in line()


def test_masks_that_are_not_there_are_refused_before_the_first_step(line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert fit(*COCO_SET, *MASKS, f"--data.path={formats.yolo_boxes(tmp_path / 'data')}") == 2
    assert "boxes only, and model.detector.name mask_rcnn learns masks" in line()
    assert not (tmp_path / "runs").exists()


def test_a_checkpoint_of_another_task_is_refused(run, line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["validate", "--task=classification", f"--ckpt_path={run}"]) == 2
    assert "the checkpoint is of the task detection" in line()


@pytest.mark.parametrize("flag", ["anchor_scale=3", "anchor_ratios=[1, 2, 3]"])
def test_weights_are_not_measured_with_other_anchors(flag, run, line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["validate", f"--ckpt_path={run}", f"--model.detector.{flag}"]) == 2
    assert f"the checkpoint is of another network (model.detector.{flag.split('=')[0]} is" in line()


def test_weights_of_another_program_have_no_ids_or_scores(tmp_path):
    torch.save({"state_dict": {"model.weight": torch.zeros(1)}}, tmp_path / "other.ckpt")
    assert ids_and_scores(str(tmp_path / "other.ckpt")) == (None, {})


def test_the_help_of_a_task_shows_its_flags_alone(capsys):
    assert main(["fit", "--task=detection", "--help"]) == 0
    printed = capsys.readouterr().out
    assert "--model.detector.width" in printed
    assert "--data.box_format" in printed
    assert "--model.mix" not in printed
    assert "--data.augment" not in printed


def test_what_takes_classifiers_alone_refuses_a_detector_in_a_line(run, line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["analyze", "heads", str(run)]) == 2
    assert "a network for detection, and this takes those that classify images" in line()
    assert list(tmp_path.iterdir()) == []


def test_to_go_on_with_the_last_run_needs_the_task_or_a_config(run, line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    flags = [f"--trainer.default_root_dir={run.parents[1]}", "--run_name=tiny", "--extend_to=9"]
    assert fit(*flags) == 2
    assert "that run is of detection; give --task detection" in line()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "images"), [([], 64), (["--normalize", "--data=images"], 3)], ids=["scenes", "pixels of padded images"]
)
def test_an_export_finds_the_same_in_onnx_runtime(flags, images, run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for scene in formats.SCENES["train"]:
        formats.picture(tmp_path / "images" / scene.name, scene)
    assert main(["export", str(run), "--format=onnx", "--output=a.onnx", *flags]) == 0
    printed = capsys.readouterr().out
    assert re.search(rf"the same [1-9]\d* objects in {images} images; boxes \S+ pixels, scores \S+ at most", printed)
    session = onnxruntime.InferenceSession("a.onnx")
    held = session.get_modelmeta().custom_metadata_map
    assert (held["labels"], held["category_ids"]) == (json.dumps(list("0123456789")), json.dumps(list(range(10))))
    boxes, scores, labels = session.run(None, {"images": np.random.rand(1, 3, 128, 128).astype("float32")})
    assert len(boxes) == len(scores) == len(labels)
    assert (np.diff(scores) <= 0).all()


@pytest.mark.slow
def test_a_dense_export_takes_batches_of_any_size(run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["export", str(run), "--format=onnx", "--output=a.onnx", "--dense"]) == 0
    assert "at most, in batches of 1, 3" in capsys.readouterr().out
    session = onnxruntime.InferenceSession("a.onnx")
    for batch in (1, 3):
        boxes, scores = session.run(None, {"images": np.zeros((batch, 3, 128, 128), "float32")})
        assert boxes.shape[0] == scores.shape[0] == batch
        assert boxes.shape[1:] == (scores.shape[1], 4)
    for scene in formats.SCENES["train"]:
        formats.picture(tmp_path / "images" / scene.name, scene)
    fixed = ["--format=onnx", "--output=b.onnx", "--dense", "--batch_size=8"]
    assert main(["export", str(run), *fixed, "--data=images"]) == 0
    printed = capsys.readouterr().out
    assert "on 3 images of images" in printed
    assert "at most, in batches of 8" in printed
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "0.png").write_bytes(b"no image")
    assert main(["export", str(run), "--format=onnx", "--output=c.onnx", "--data=broken"]) == 2
    assert "--data broken: none of the images can be read" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--softmax"], "--softmax: for networks that classify images"),
        (["--image_size=100"], "--image_size 100: for a detector, allowed are multiples of 32"),
        (["--tolerance=1"], "--tolerance: for networks that classify images"),
        (["--batch_size=2"], "--batch_size 2: with NMS, one image at a time"),
        (["--format=executorch", "--output=a.pte"], "--format executorch: it has no NMS; give --dense"),
    ],
    ids=str,
)
def test_what_a_detector_can_not_be_exported_as_is_one_line(flags, message, run, line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["export", str(run), "--format=onnx", "--output=a.onnx", *flags]) == 2
    assert message in line()
    assert list(tmp_path.iterdir()) == []


def test_mask_rcnn_can_not_be_exported(run, line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    opened, config = open_detector(str(run)), DetectorConfig("mask_rcnn", width=16, convs=1)
    Path("saved").mkdir()
    network = build_detector(opened.design.resolved, config, len(opened.class_names))
    save_detector(replace(opened, model=network, config=config), Path("saved"))
    assert main(["export", "saved", "--format=onnx", "--output=a.onnx"]) == 2
    assert "--format onnx: mask_rcnn has no graph, as its steps depend on what it finds. Export a RetinaNet" in line()
    assert [path.name for path in tmp_path.iterdir()] == ["saved"]


def test_a_run_its_saved_files_and_predict_find_the_same(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for scene in formats.SCENES["train"]:
        formats.picture(tmp_path / "images" / scene.name, scene)
    assert main(["predict", f"--ckpt_path={run}", f"--data.path={tmp_path / 'images'}", "--output=a.json"]) == 0
    rows = json.loads((tmp_path / "a.json").read_text())
    assert {row["image_id"] for row in rows} == {1, 2, 3}
    (tmp_path / "saved").mkdir()
    save_detector(open_detector(str(run)), tmp_path / "saved")
    files = sorted((tmp_path / "images").iterdir())
    for source in (run, tmp_path / "saved"):
        detect = load(str(source))
        found = detect(files)
        assert len(found) == 3
        for number, (own, file) in enumerate(zip(found, files, strict=True), 1):
            expected = [row for row in rows if row["image_id"] == number]
            assert own["scores"].tolist() == pytest.approx([row["score"] for row in expected], abs=1e-5)
            assert own["names"] == [str(row["category_id"]) for row in expected]
            with Image.open(file) as picture:
                assert torch.equal(detect(picture)["scores"], own["scores"])
        with refused("images: allowed are paths, PIL images and uint8 tensors (3, H, W), and one is of ndarray"):
            detect([np.zeros((8, 8, 3), np.uint8)])
        middle = float(found[0]["scores"].median())
        assert 0 < len(detect(files[0], score=middle)["scores"]) < len(found[0]["scores"])
