"""RetinaNet and Mask R-CNN: they train and find, on every design, with classes that begin at 0."""

import pytest
import torch

from shvit_pl.designs.config import resolve_design
from shvit_pl.designs.design import NAMED
from shvit_pl.designs.detector import DetectorConfig
from shvit_pl.errors import UserError
from shvit_pl.models.detection.mask_rcnn import MaskRCNN
from shvit_pl.models.detection.retinanet import RetinaNet

DETECTORS = {"retinanet": RetinaNet, "mask_rcnn": MaskRCNN}
CLASSES = 3
LOSSES = {
    "retinanet": {"classification", "bbox_regression"},
    "mask_rcnn": {"loss_objectness", "loss_rpn_box_reg", "loss_classifier", "loss_box_reg", "loss_mask"},
}


def make(name, design=NAMED["tiny"], **settings):
    torch.manual_seed(0)
    return DETECTORS[name](design, DetectorConfig(name, **{"width": 32, "convs": 2, **settings}), CLASSES)


def scene(objects=((10.0, 20.0, 70.0, 90.0, 2), (60.0, 60.0, 120.0, 100.0, 0))):
    """Two images, the second without an object, and their targets."""
    boxes = torch.tensor([box[:4] for box in objects]).reshape(-1, 4)
    masks = torch.zeros(len(objects), 128, 128, dtype=torch.uint8)
    for mask, (left, top, right, bottom) in zip(masks, boxes.long().tolist(), strict=True):
        mask[top:bottom, left:right] = 1
    images = torch.randn(2, 3, 128, 128) * 0.2
    images[0, :, boxes[0, 1].long() : boxes[0, 3].long(), boxes[0, 0].long() : boxes[0, 2].long()] += 2
    labels = torch.tensor([box[4] for box in objects])
    nothing = {"boxes": torch.zeros(0, 4), "labels": labels[:0], "masks": masks[:0]}
    return images, [(128, 128), (128, 96)], [{"boxes": boxes, "labels": labels, "masks": masks}, nothing]


@pytest.mark.parametrize("settings", [{}, {"norm": "group"}, {"convs": 4}], ids=str)
@pytest.mark.parametrize("name", DETECTORS)
def test_every_parameter_learns_also_where_an_image_has_no_object(name, settings):
    model = make(name, **settings)
    losses = model(*scene())
    assert losses.keys() == LOSSES[name]
    total = sum(losses.values())
    assert torch.isfinite(total)
    total.backward()
    assert [key for key, tensor in model.named_parameters() if tensor.grad is None] == []
    assert all(torch.isfinite(sum(model(*scene()[:2], [scene()[2][1]] * 2).values())) for _ in range(1))


@pytest.mark.parametrize("name", DETECTORS)
def test_it_finds_what_it_has_learned_within_the_image(name):
    model = make(name, norm="group")
    images, sizes, targets = scene()
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3)
    for _ in range(60):
        optimizer.zero_grad()
        sum(model(images, sizes, targets).values()).backward()
        optimizer.step()
    for norm in model.modules():  # statistics of these two images
        if isinstance(norm, torch.nn.BatchNorm2d):
            norm.train()
    for part in (model, getattr(model, "rpn", None), getattr(model, "roi_heads", None)):
        if part is not None:
            part.training = False
    with torch.no_grad():
        found, nothing = model(images, sizes)
    best = found["scores"].argmax()
    assert found["labels"][best] in (0, 2)
    matching = targets[0]["boxes"][targets[0]["labels"] == found["labels"][best]][0]
    assert (found["boxes"][best] - matching).abs().max() < 12
    assert nothing["scores"].max(initial=0) < found["scores"][best] if len(nothing["scores"]) else True
    assert (found["boxes"] >= 0).all()
    assert (found["boxes"] <= 128).all()
    if name == "mask_rcnn":
        assert found["masks"].shape == (len(found["scores"]), 1, 28, 28)


@pytest.mark.parametrize("name", DETECTORS)
@pytest.mark.parametrize("patch", [4, 8, 16])
@pytest.mark.parametrize("stages", [3, 4])
def test_every_design_takes_the_same_detector(name, patch, stages):
    model = make(name, resolve_design("tiny", patch_size=patch, stages=stages))
    assert model.backbone.levels == DetectorConfig(name).levels
    assert model(*scene()).keys() == LOSSES[name]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"width": 48, "norm": "group"}, "model.detector.width 48: with norm group, allowed are multiples of 32."),
        ({"name": "mask_rcnn", "box_loss": "giou"}, "model.detector.box_loss giou: mask_rcnn has l1; leave it out"),
        ({"anchor_ratios": ()}, r"model.detector.anchor_ratios \[\]: allowed are numbers above 0, one or more."),
        ({"anchor_ratios": (1.0, -2.0)}, r"model.detector.anchor_ratios \[1.0, -2.0\]: allowed are numbers above 0"),
        ({"convs": 0}, "model.detector.convs 0: allowed are whole numbers from 1"),
        ({"score": 1.5}, "model.detector.score 1.5: allowed are numbers from 0 to 1"),
        ({"nms": 0.0}, "model.detector.nms 0.0: allowed are numbers above 0 and at most 1"),
    ],
    ids=str,
)
def test_a_wrong_setting_is_refused_by_its_name(settings, message):
    with pytest.raises(UserError, match=message):
        DetectorConfig(**settings)
