"""RoIAlign: each box from the level of its size, aligned."""

import math

import torch
from torchvision.ops import roi_align

from shvit_pl.models.detection.mask_rcnn import AlignedRoIAlign

STRIDES = (4, 8, 16, 32)


def level_of(box):
    """mmdetection's formula, with its finest scale of 56 pixels."""
    side = math.sqrt((box[2] - box[0]) * (box[3] - box[1]))
    return min(max(math.floor(math.log2(side / 56 + 1e-6)), 0), len(STRIDES) - 1)


def test_each_box_is_pooled_from_the_level_of_its_size_in_the_order_of_the_boxes():
    generator = torch.Generator().manual_seed(0)
    maps = {str(stride): torch.randn(2, 3, 512 // stride, 512 // stride, generator=generator) for stride in STRIDES}
    corners = torch.rand(2, 20, 2, generator=generator) * 60
    sides = 2 ** (3 + 6 * torch.rand(2, 20, 2, generator=generator))
    boxes = [*torch.cat([corners, (corners + sides).clamp(max=512)], dim=2)]
    boxes[1][7] = torch.tensor([0.0, 10.0, 500.0, 510.0])
    pooled = AlignedRoIAlign(STRIDES, 7)(maps, boxes, [(512, 512)] * 2)
    assert pooled.shape == (40, 3, 7, 7)
    assert {level_of(box) for box in torch.cat(boxes).tolist()} == {0, 1, 2, 3}
    for number, box in enumerate(torch.cat(boxes).tolist()):
        stride, image = STRIDES[level_of(box)], number // 20
        of_image = maps[str(stride)][image : image + 1]
        alone = roi_align(of_image, [torch.tensor([box])], 7, 1 / stride, sampling_ratio=0, aligned=True)
        torch.testing.assert_close(pooled[number], alone[0])


def test_an_image_without_boxes_has_nothing_pooled():
    maps = {str(stride): torch.zeros(1, 3, 64 // stride, 64 // stride) for stride in STRIDES}
    assert AlignedRoIAlign(STRIDES, 14)(maps, [torch.zeros(0, 4)], [(64, 64)]).shape == (0, 3, 14, 14)
