"""The official detection checkpoints: fabricated ones, with all of their names and shapes."""

import json
from pathlib import Path

import pytest
import torch

from shvit_pl.designs.design import NAMED
from shvit_pl.designs.detector import DetectorConfig
from shvit_pl.models.detection.mask_rcnn import MaskRCNN
from shvit_pl.models.detection.official import from_official
from shvit_pl.models.detection.retinanet import RetinaNet

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
