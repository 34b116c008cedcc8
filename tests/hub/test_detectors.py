"""A detector's run as a repository: its files and card, in a new process, in ONNX Runtime alone, and its backbone."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import timm
import torch
import yaml
from huggingface_hub import ModelCard
from PIL import Image

import shvit_pl
from shvit_pl.callbacks.summary import PushToHub
from shvit_pl.cli import main
from shvit_pl.designs.config import DesignConfig
from shvit_pl.designs.design import NAMED
from shvit_pl.designs.detector import DetectorConfig
from shvit_pl.designs.paper_results import detector_row
from shvit_pl.errors import UserError
from shvit_pl.hub import contents, detector_card
from shvit_pl.models.detection.detectors import build_detector, open_detector
from shvit_pl.runs.writing import RunTensorBoardLogger
from tests.conftest import perturb_
from tests.fractions import assert_fractions
from tests.hub.runs import edit, files
from tests.refusals import refusal

REPO = "user/scenes"
PACKAGE = Path(shvit_pl.__file__).parent
RECORDS = {"README.md", "config.json", "model.safetensors", "config.yaml", "summary.json", "metrics.csv"}
FIGURES = {f"figures/{name}.png" for name in ("curves", "class_ap", "precision_recall")}
PICTURE = "figures/detections.png"


@pytest.fixture
def own(detector_run, tmp_path):
    """A copy of the folder of a detector's run, to be changed."""
    return shutil.copytree(detector_run, tmp_path / "runs" / "tiny" / "version_0")


@pytest.fixture
def no_graph(monkeypatch):
    """Spares the export, which takes half a minute."""

    def fail(*_):
        raise UserError("--format onnx: it is not for this test. Nothing was written to 'a.onnx'.")

    monkeypatch.setattr(contents, "write_graph", fail)


@pytest.fixture
def images(tmp_path):
    """A folder of images as large as the scenes."""
    (tmp_path / "images").mkdir()
    for number in range(3):
        pixels = np.random.default_rng(number).integers(0, 255, (8, 8, 3), dtype=np.uint8)
        image = Image.fromarray(pixels).resize((128, 128), Image.Resampling.BICUBIC)
        image.save(tmp_path / "images" / f"{number}.png")
    return tmp_path / "images"


def push(folder, *flags, repo=REPO):
    return main(["push", str(folder), "--repo-id", repo, *flags])


def written(run, folder, *flags):
    """The card and the files that a push would send."""
    assert push(run, "--dry-run", f"--output={folder}", *flags) == 0
    return ModelCard.load(folder / "README.md"), files(folder)


def as_mask_rcnn(run):
    """Change a run into one of Mask R-CNN, with weights of which every tensor shows."""
    summary = json.loads((run / "summary.json").read_text())
    masks = {f"val/mask_{name.removeprefix('val/')}": 0.25 for name in summary["metrics"]}
    detector = {**summary["detector"], "name": "mask_rcnn", "box_loss": "l1", "regions": 8}
    found = {"mask_class_ap": dict.fromkeys(summary["classes"], 0.125)}
    edit(run / "summary.json", detector=detector, metrics={**summary["metrics"], **masks}, **found)
    content = torch.load(run / "checkpoints/best.ckpt", weights_only=True)
    settings = content["hyper_parameters"]
    settings["detector"] = detector
    model = build_detector(DesignConfig(**settings["design"]).resolved, DetectorConfig(**detector), 10)
    state = perturb_(model).state_dict()
    content["state_dict"] = {
        f"{kind}{key}": value for kind in ("model.", "ema.module.") for key, value in state.items()
    }
    torch.save(content, run / "checkpoints/best.ckpt")


def test_the_card_tells_what_it_finds_how_well_and_how_to_load_it(own, tmp_path, no_graph, capsys):
    metrics = {"val/map": 0.5, "val/map_50": 0.75, "val/map_ema": 0.4}
    class_ap = {**dict.fromkeys("012345678", 0.25), "9": None}
    edit(own / "summary.json", metrics=metrics, class_ap=class_ap, best_score=0.375)
    card, content = written(own, tmp_path / "hub")
    assert content.keys() == RECORDS | FIGURES | {PICTURE}
    assert "without model.onnx: --format onnx: it is not for this test.\n" in capsys.readouterr().out
    data = card.data
    assert (data.library_name, data.pipeline_tag, data.license) == ("shvit-pl", "object-detection", "mit")
    assert {"object-detection", "retinanet", "shvit"} <= set(data.tags)
    assert [(each.metric_type, each.metric_value) for each in data.eval_results] == [("map", 0.5), ("map_50", 0.75)]
    assert data.datasets is None
    for words in (
        "**0.5000 box AP** on some of its 200 validation images",
        f'shvit_pl.load("{REPO}")',
        'detect("image.jpg", score=0.375)',
        "| box, raw weights (in this repository) | 0.5000 | 0.7500 |",
        "| box, averaged weights (EMA) (not in this repository) | 0.4000 | - |",
        "| 8 | 0.2500 |\n| 9 | - |",
        f"![Detections]({PICTURE})",
        "timm and transformers can't load",
        "--backbone",
        "Evaluated after too few steps",
        "CC BY 4.0",
    ):
        assert words in card.text
    assert "ONNX" not in card.text
    assert_fractions(card.text)
    detector = open_detector(str(tmp_path / "hub"))
    original = open_detector(str(own))
    assert (detector.class_names, detector.category_ids) == (original.class_names, original.category_ids)
    assert all(
        torch.equal(one, other)
        for one, other in zip(*(each.model.state_dict().values() for each in (detector, original)), strict=True)
    )


def test_images_of_others_are_not_shown_and_their_dataset_is_linked(own, tmp_path, no_graph):
    summary = json.loads((own / "summary.json").read_text())
    edit(own / "summary.json", dataset={**summary["dataset"], "path": "somebody/cups", "commit": "0" * 40})
    card, content = written(own, tmp_path / "hub")
    assert content.keys() == RECORDS | FIGURES
    assert card.data.datasets == ["somebody/cups"]
    assert "](https://huggingface.co/datasets/somebody/cups)" in card.text
    assert not [words for words in ("detections.png", "CC BY 4.0") if words in card.text]


def test_a_detector_of_the_paper_has_its_row_whose_latency_is_the_backbones(own, tmp_path, no_graph, monkeypatch):
    card, _ = written(own, tmp_path / "hub")
    assert "The paper's" not in card.text
    monkeypatch.setattr(detector_card, "paper_row", lambda _: detector_row(NAMED["s4"], DetectorConfig()))
    card, _ = written(own, tmp_path / "paper")
    assert "The paper's Table 5: RetinaNet on SHViT-S4 (data and training differ): AP 0.388;" in card.text
    assert "9% of this detector's MACs." in card.text


def test_masks_have_results_and_no_graph(own, tmp_path, capsys):
    as_mask_rcnn(own)
    card, content = written(own, tmp_path / "hub")
    assert content.keys() == RECORDS | FIGURES | {PICTURE}
    assert "model.onnx" not in capsys.readouterr().out
    assert card.data.pipeline_tag == "image-segmentation"
    assert {"mask_map", "mask_map_50"} <= {each.metric_type for each in card.data.eval_results}
    for words in ("**0.2500 mask AP**", "| mask, raw weights (in this repository) | 0.2500 |", 'found["rles"]'):
        assert words in card.text
    assert "| class | box AP | mask AP |" in card.text
    assert "Mask R-CNN has no ONNX graph" in card.text
    assert open_detector(str(tmp_path / "hub")).config.name == "mask_rcnn"


def test_a_fit_pushes_its_detector(own, hub, no_graph):
    logger = RunTensorBoardLogger(own.parent.parent, name=own.parent.name, version=own.name)
    PushToHub(REPO).on_fit_end(SimpleNamespace(loggers=[logger], is_global_zero=True), None)
    assert hub.repo(REPO).files.keys() - {".gitattributes"} == RECORDS | FIGURES | {PICTURE}


def test_a_backbone_is_a_repository_of_timm(own, hub, tmp_path):
    assert push(own, "--backbone") == 0
    pushed = hub.repo(REPO).files
    assert pushed.keys() - {".gitattributes"} == RECORDS | {"figures/curves.png"}
    card = ModelCard(pushed["README.md"].decode())
    assert (card.data.library_name, card.data.pipeline_tag) == ("timm", "image-feature-extraction")
    backbone = timm.create_model(f"hf-hub:{REPO}", pretrained=True, features_only=True).eval()
    image = torch.randn(1, 3, 128, 128)
    original = open_detector(str(own)).model.backbone.net
    with torch.no_grad():
        for found, expected in zip(backbone(image), original.forward_intermediates(image)[1], strict=True):
            torch.testing.assert_close(found, expected)
    assert timm.create_model(f"hf-hub:{REPO}", pretrained=True).num_classes == 0


def test_what_it_is_not_for_is_one_message(own, tmp_path, no_graph, capsys):
    written(own, tmp_path / "detector")
    written(own, tmp_path / "backbone", "--backbone")
    for command, folder, message in (
        ("predict --data.path=. --model.init_from=", "backbone", "a backbone without a classifier"),
        ("predict --data.path=. --ckpt_path=", "detector", "weights only: --model.init_from"),
    ):
        assert message in refusal(capsys, *f"{command}{tmp_path / folder}".split())


def test_a_classifier_has_no_backbone_of_its_own_repository(run, capsys):
    message = refusal(capsys, "push", str(run), "--repo-id=user/name", "--dry-run", "--backbone")
    assert "--backbone: for a detector's run; leave it out" in message
    assert not (run / "hub").exists()


def predicted(images, output, *flags):
    """Results of `shvit-pl predict`: score, box and class of each image's objects."""
    assert main(["predict", *flags, f"--data.path={images}", f"--output={output}"]) == 0
    return [[row["image_id"], row["score"], *row["bbox"], row["category_id"]] for row in json.loads(output.read_text())]


IN_SHVIT_PL = """
import json, sys, shvit_pl
found = shvit_pl.load(sys.argv[1])(sys.argv[2:])
print(json.dumps([{name: each[name].tolist() for name in ("boxes", "scores", "labels")} for each in found]))
"""
WITHOUT = ("shvit_pl", "torch", "torchvision", "lightning", "timm", "datasets")


@pytest.mark.slow
def test_what_is_pushed_finds_what_predict_does_also_in_onnx_runtime_alone(own, hub, images, tmp_path, capsys):
    edit(own / "summary.json", best_score=0.0)
    assert push(own) == 0
    pushed = hub.repo(REPO).files
    assert pushed.keys() - {".gitattributes"} == RECORDS | FIGURES | {PICTURE, "model.onnx"}
    assert not [path for path in (PACKAGE, tmp_path) if str(path).encode() in pushed["model.onnx"]]
    loading = capsys.readouterr().out.rsplit("use it: ")[-1]
    assert loading.strip() == f'import shvit_pl; shvit_pl.load("{REPO}")("image.jpg")'
    expected = predicted(images, tmp_path / "a.json", f"--ckpt_path={own}")
    again = predicted(images, tmp_path / "b.json", f"--model.init_from=hf-hub:{REPO}")
    np.testing.assert_allclose(again, expected, atol=1e-3)

    paths = sorted(images.iterdir())
    command = [sys.executable, "-c", IN_SHVIT_PL, REPO, *map(str, paths)]
    done = subprocess.run(command, env=hub.environment(), capture_output=True, text=True, check=True)
    rows = [
        [number, score, *box[:2], box[2] - box[0], box[3] - box[1], label]
        for number, each in enumerate(json.loads(done.stdout.splitlines()[-1]), 1)
        for box, score, label in zip(each["boxes"], each["scores"], each["labels"], strict=True)
    ]
    np.testing.assert_allclose(rows, expected, atol=1e-3)

    card = pushed["README.md"].decode()
    program = next(block for block in re.findall(r"```python\n(.*?)```", card, re.DOTALL) if "onnxruntime" in block)
    start = f"import sys; sys.modules.update(dict.fromkeys({WITHOUT}))\n"
    program = program.replace('"image.jpg"', "sys.argv[1]")
    for number, path in enumerate(paths, 1):
        command = [sys.executable, "-c", start + program, str(path)]
        done = subprocess.run(command, env=hub.environment(), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        found = [re.fullmatch(r"(\d) (\S+) \[(.*)\]", line) for line in done.stdout.splitlines()]
        own_rows = [row for row in expected if row[0] == number]
        assert len(found) == len(own_rows)
        for name, score, box in (each.groups() for each in found):
            left, top, right, bottom = map(float, box.split(","))
            near = np.array([row[2:6] for row in own_rows if row[-1] == int(name)])
            assert np.abs(near - [left, top, right - left, bottom - top]).max(1).min() < 1e-2
            assert min(abs(row[1] - float(score)) for row in own_rows if row[-1] == int(name)) < 1e-3


@pytest.mark.slow
def test_a_detector_of_transformers_takes_a_backbone_as_its_card_says(own, hub):
    assert push(own, "--backbone") == 0
    card = hub.repo(REPO).files["README.md"].decode()
    names = {}
    for block in re.findall(r"```python\n(.*?)```", card, re.DOTALL):
        exec(block, names)
    backbone, original = names["model"].model.backbone.model, open_detector(str(own)).model.backbone.net.eval()
    image = torch.randn(1, 3, 128, 128)
    with torch.no_grad():
        for found, expected in zip(
            backbone.eval()(image).feature_maps, original.forward_intermediates(image)[1], strict=True
        ):
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


@pytest.mark.slow
def test_a_pushed_detector_and_a_pushed_backbone_begin_a_run(own, tmp_path, no_graph, capsys):
    written(own, tmp_path / "detector")
    written(own, tmp_path / "backbone", "--backbone")
    config = yaml.safe_load((own / "config.yaml").read_text())
    flags = [f"--config={own / 'config.yaml'}", "--trainer.max_epochs=1", "--trainer.limit_train_batches=1"]
    flags += ["--trainer.limit_val_batches=0", f"--trainer.default_root_dir={tmp_path}"]
    assert config["task"] == "detection"
    capsys.readouterr()
    for source, words in (("detector", "tensors from"), ("backbone", "pyramid and heads (the source is a backbone)")):
        assert main(["fit", *flags, f"--model.init_from={tmp_path / source}", f"--run_name={source}"]) == 0
        assert words in " ".join(capsys.readouterr().out.split())
