"""The official detection checkpoints: fabricated ones, with all of their names and shapes."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from shvit_pl.cli import main
from shvit_pl.designs.design import NAMED
from shvit_pl.designs.detector import DetectorConfig
from shvit_pl.errors import UserError
from shvit_pl.models.detection.mask_rcnn import MaskRCNN
from shvit_pl.models.detection.retinanet import RetinaNet
from shvit_pl.models.detection.starting import from_official, load_detector
from shvit_pl.models.shvit import create_model

CLASSES = 80
WIDTH = 256
BACKBONE = json.loads((Path(__file__).parents[2] / "golden" / "official_state_dict_keys.json").read_text())
DETECTORS = {"retinanet": RetinaNet, "mask_rcnn": MaskRCNN}


def conv(name, outputs, inputs, kernel):
    return {f"{name}.weight": (outputs, inputs, kernel, kernel), f"{name}.bias": (outputs,)}


def linear(name, outputs, inputs):
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def shapes_of(name, design, detector):
    """Names and shapes of the official checkpoint of a design."""
    shapes = {
        f"backbone.{key}": shape for key, shape in BACKBONE[f"shvit_{name}"].items() if not key.startswith("head")
    }
    for stage, dim in enumerate(design.embed_dim):
        shapes |= conv(f"neck.lateral_convs.{stage}.conv", WIDTH, dim, 1)
        shapes |= conv(f"neck.fpn_convs.{stage}.conv", WIDTH, WIDTH, 3)
    ups = 1 if detector == "retinanet" else 2
    for number in range(ups):
        shapes |= {f"neck.extra_trans_convs.{number}.conv.weight": (WIDTH, WIDTH, 2, 2)}
        shapes |= {f"neck.extra_trans_convs.{number}.conv.bias": (WIDTH,)}
        shapes |= conv(f"neck.extra_fpn_convs.{number}.conv", WIDTH, WIDTH, 3)
    if detector == "retinanet":
        shapes |= conv("neck.fpn_convs.3.conv", WIDTH, design.embed_dim[-1], 3)
        for kind in ("cls", "reg"):
            for number in range(4):
                shapes |= conv(f"bbox_head.{kind}_convs.{number}.conv", WIDTH, WIDTH, 3)
        return shapes | conv("bbox_head.retina_cls", 9 * CLASSES, WIDTH, 3) | conv("bbox_head.retina_reg", 36, WIDTH, 3)
    for part, outputs, kernel in (("conv", WIDTH, 3), ("cls", 3, 1), ("reg", 12, 1)):
        shapes |= conv(f"rpn_head.rpn_{part}", outputs, WIDTH, kernel)
    of_boxes, of_masks = "roi_head.bbox_head", "roi_head.mask_head"
    shapes |= linear(f"{of_boxes}.fc_cls", CLASSES + 1, 1024) | linear(f"{of_boxes}.fc_reg", 4 * CLASSES, 1024)
    shapes |= linear(f"{of_boxes}.shared_fcs.0", 1024, WIDTH * 49) | linear(f"{of_boxes}.shared_fcs.1", 1024, 1024)
    for number in range(4):
        shapes |= conv(f"{of_masks}.convs.{number}.conv", WIDTH, WIDTH, 3)
    return shapes | conv(f"{of_masks}.upsample", WIDTH, WIDTH, 2) | conv(f"{of_masks}.conv_logits", CLASSES, WIDTH, 1)


def fabricated(shapes):
    generator = torch.Generator().manual_seed(0)
    return {key: torch.randn(shape, generator=generator) for key, shape in shapes.items()}


@pytest.mark.parametrize("detector", DETECTORS)
@pytest.mark.parametrize("name", ["s1", "s4"])
def test_every_tensor_finds_its_place(name, detector):
    design = NAMED[name]
    state = fabricated(shapes_of(name, design, detector))
    model = DETECTORS[detector](design, DetectorConfig(detector), CLASSES)
    model.load_state_dict(from_official(state), strict=True)


def test_classes_keep_their_order_and_the_background_comes_first():
    official = fabricated(shapes_of("s1", NAMED["s1"], "mask_rcnn"))
    ours = from_official(official)
    scores, boxes, masks = (
        ours[f"roi_heads.{name}.weight"]
        for name in ("box_predictor.cls_score", "box_predictor.bbox_pred", "mask_predictor.mask_fcn_logits")
    )
    fc_cls, fc_reg = (official[f"roi_head.bbox_head.{name}.weight"] for name in ("fc_cls", "fc_reg"))
    logits = official["roi_head.mask_head.conv_logits.weight"]
    assert torch.equal(scores[0], fc_cls[CLASSES])
    for label in (0, 1, CLASSES - 1):
        assert torch.equal(scores[label + 1], fc_cls[label])
        assert torch.equal(boxes[4 * (label + 1) : 4 * (label + 2)], fc_reg[4 * label : 4 * (label + 1)])
        assert torch.equal(masks[label + 1], logits[label])
    assert boxes.shape == (4 * (CLASSES + 1), 1024)
    assert not boxes[:4].any()
    assert not masks[0].any()


@pytest.mark.parametrize(
    ("detector", "old", "new"),
    [
        ("retinanet", "bbox_head.retina_cls.bias", None),
        ("retinanet", "neck.lateral_convs.1.conv.weight", "neck.lateral.1.conv.weight"),
        ("mask_rcnn", "roi_head.bbox_head.fc_cls.weight", "roi_head.bbox_head.cls.weight"),
    ],
    ids=["missing", "renamed", "renamed of Mask R-CNN"],
)
def test_a_file_with_a_tensor_missing_or_renamed_is_refused_and_nothing_loaded(detector, old, new, tmp_path):
    state = fabricated(shapes_of("s1", NAMED["s1"], detector))
    value = state.pop(old)
    torch.save({"state_dict": {**state, **({new: value} if new else {})}}, tmp_path / "official.pth")
    model = DETECTORS[detector](NAMED["s1"], DetectorConfig(detector), CLASSES)
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    with pytest.raises(UserError, match="of another design or detector"):
        load_detector(model, str(tmp_path / "official.pth"))
    assert all(torch.equal(before[key], tensor) for key, tensor in model.state_dict().items())


def test_of_a_network_of_imagenet_the_backbone_is_taken_and_the_classifier_left_out(tmp_path):
    network = create_model("s1", num_classes=1000)
    torch.save({"model": network.state_dict()}, tmp_path / "imagenet.pth")
    model = RetinaNet(NAMED["s1"], DetectorConfig("retinanet"), CLASSES)
    report = load_detector(model, str(tmp_path / "imagenet.pth"))
    assert str(report).endswith("pyramid and heads (the source is a backbone); left out the classifier")
    own = model.backbone.net.state_dict()
    assert all(torch.equal(own[key], tensor) for key, tensor in network.state_dict().items() if key in own)
    assert len(own) == len(network.state_dict()) - sum(key.startswith("head") for key in network.state_dict())


@pytest.fixture
def official(tmp_path):
    """A file of mmdetection's, of a RetinaNet whose numbers stay finite."""
    state = {key: 0.02 * value for key, value in fabricated(shapes_of("s1", NAMED["s1"], "retinanet")).items()}
    state |= {key: 1 + value.abs() for key, value in state.items() if key.endswith("running_var")}
    torch.save({"meta": {"epoch": 12}, "state_dict": state, "optimizer": {}}, tmp_path / "official.pth")
    return tmp_path / "official.pth"


def coco(folder, classes):
    """A COCO folder with an image for training and one for validation, and in each an object of every class."""
    boxes = [[number % 10 * 12, number // 10 * 12, 10, 10] for number in range(classes)]
    objects = [
        {"id": 10 + number, "image_id": 1, "category_id": 2 * number + 1, "bbox": box, "area": 100, "iscrowd": 0}
        for number, box in enumerate(boxes)
    ]
    categories = [{"id": 2 * number + 1, "name": f"class {number}"} for number in range(classes)]
    (folder / "annotations").mkdir(parents=True)
    for number, split in enumerate(("train", "val")):
        (folder / split).mkdir()
        Image.new("RGB", (128, 128), (40 * number, 90, 160)).save(folder / split / f"{number}.png")
        images = [{"id": 1, "file_name": f"{number}.png", "width": 128, "height": 128}]
        content = {"images": images, "annotations": objects, "categories": categories}
        (folder / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
    return folder


@pytest.mark.slow
def test_by_the_command_it_is_measured_whole_and_begins_a_run_with_other_classes(
    official, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    flags = ["--config=detection/retinanet_s1.yaml", f"--model.init_from={official}", "--plain"]
    flags += ["--data.min_size=128", "--data.max_size=128", "--data.batch_size=2"]
    assert main(["validate", *flags, f"--data.path={coco(tmp_path / 'coco', CLASSES)}"]) == 0
    assert "val/map" in capsys.readouterr().out
    names = json.dumps([f"class {number}" for number in range(CLASSES)])
    assert main(["predict", *flags, f"--data.path={tmp_path / 'coco' / 'val'}", f"--model.class_names={names}"]) == 0
    assert (tmp_path / "predictions.json").is_file()
    few = [*flags, f"--data.path={coco(tmp_path / 'few', 3)}", "--data.batch_size=1"]
    assert main(["validate", *few]) == 2
    message = capsys.readouterr().err
    assert "it has no weights for these classes: fresh would be the layers of classes (2 tensors" in message
    assert main(["fit", *few, "--trainer.max_epochs=1"]) == 0
    assert "the layers of classes (2 tensors; the source has other classes)" in capsys.readouterr().out
    assert main(["fit", *few, "--model.design.name=s2"]) == 2
    assert "of another design or detector" in capsys.readouterr().err
