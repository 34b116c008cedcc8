"""Anchors, at their strides' multiples and not rounded; they don't depend on the image's padding."""

import pytest
import torch
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import box_iou

from shvit_pl.designs.detector import DetectorConfig
from shvit_pl.models.detection.anchors import Anchors, best_possible_recall


def anchors_of(config, height, width):
    maps = [torch.zeros(1, 1, -(-height // level), -(-width // level)) for level in config.levels]
    generator = Anchors.of(config)
    (anchors,) = generator(ImageList(torch.zeros(1, 3, height, width), [(height, width)]), maps)
    return anchors


def mmdetections_formula(config, height, width):
    """Anchors as mmdetection computes them: base size, scales, ratios, and shifts by the stride without an offset."""
    boxes = []
    for stride in config.levels:
        bases = []
        for ratio in config.anchor_ratios:
            for octave in range(config.octaves):
                side = stride * config.scale * 2 ** (octave / config.octaves)
                w, h = side / ratio**0.5, side * ratio**0.5
                bases.append((-w / 2, -h / 2, w / 2, h / 2))
        for y in range(-(-height // stride)):
            for x in range(-(-width // stride)):
                boxes += [(a + x * stride, b + y * stride, c + x * stride, d + y * stride) for a, b, c, d in bases]
    return torch.tensor(boxes, dtype=torch.float64)


@pytest.mark.parametrize("name", ["retinanet", "mask_rcnn"])
@pytest.mark.parametrize(("height", "width"), [(800, 1344), (512, 512), (480, 640)])
def test_they_are_mmdetections(name, height, width):
    config = DetectorConfig(name)
    anchors = anchors_of(config, height, width)
    assert anchors.dtype == torch.float32
    torch.testing.assert_close(anchors.double(), mmdetections_formula(config, height, width), rtol=0, atol=1e-3)


def test_an_image_that_is_padded_has_the_same_ones_and_more():
    config = DetectorConfig(anchor_scale=2, anchor_ratios=(1.0,))
    small, large = ({tuple(box) for box in anchors_of(config, *size).tolist()} for size in [(256, 256), (256, 384)])
    assert small < large


def test_maps_of_half_precision_have_exact_ones():
    config = DetectorConfig()
    generator = Anchors.of(config)
    images = ImageList(torch.zeros(1, 3, 1344, 1344), [(1344, 1344)])
    sides = [1344 // level + 1 for level in config.levels]
    half, single = (
        generator(images, [torch.zeros(1, 1, side, side, dtype=dtype) for side in sides])[0]
        for dtype in (torch.bfloat16, torch.float32)
    )
    assert half.dtype == torch.float32
    assert torch.equal(half, single)


@pytest.mark.parametrize("name", ["retinanet", "mask_rcnn"])
def test_the_best_overlap_of_a_box_is_the_largest_with_all_anchors(name):
    config, drawn, (height, width) = DetectorConfig(name), torch.Generator().manual_seed(0), (480, 640)
    corners = torch.rand(300, 2, 2, generator=drawn) * torch.tensor([width, height])
    boxes = torch.cat([corners.amin(1), corners.amax(1)], dim=1)
    boxes[:4] = torch.tensor(
        [[0, 0, 9, 9], [width - 9, height - 9, width, height], [0, 0, width, height], [0, 0, 2, 2]]
    )
    overlaps = Anchors.of(config).best_overlaps(boxes, torch.tensor([height, width]).expand(300, 2))
    torch.testing.assert_close(overlaps, box_iou(boxes, anchors_of(config, height, width)).amax(1))


def test_objects_too_small_for_the_anchors_are_told_with_a_scale_that_fits():
    sides = torch.tensor([8.0, 9.0, 10.0, 150.0])
    boxes = 128 + sides[:, None] / 2 * torch.tensor([-1.0, -1.0, 1.0, 1.0])
    labels = torch.tensor([0, 0, 0, 1])
    recall = best_possible_recall(DetectorConfig(), boxes, labels, torch.full((4, 2), 512), ["ant", "cow", "none"])
    assert recall["all"] == 0.25
    assert recall["by_class"] == {"ant": 0.0, "cow": 1.0}
    assert (recall["better_scale"], recall["better"]) == (1.0, 1.0)
    fitting = best_possible_recall(
        DetectorConfig(anchor_scale=1.0), boxes, labels, torch.full((4, 2), 512), ["ant", "cow"]
    )
    assert fitting == {"all": 1.0, "by_class": {"ant": 1.0, "cow": 1.0}}
