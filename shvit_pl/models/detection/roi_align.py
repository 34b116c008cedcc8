"""RoIAlign over the levels of a pyramid, aligned, as mmdetection and detectron2 have it."""

from collections.abc import Sequence
from math import log2

import torch
from torch import Tensor
from torchvision.ops import MultiScaleRoIAlign, roi_align
from torchvision.ops.poolers import LevelMapper


class AlignedRoIAlign(MultiScaleRoIAlign):
    """Pools each box from the level of its size: at stride 4 below 112 pixels, at 8 below 224, and so on.

    torchvision's own has no way to ask for `aligned`, without which boxes are half a position off, and takes a fixed
    number of samples instead of one for each position that a bin covers.

    Args:
        strides: Of the levels, each twice the one before; they are the first ones of the pyramid.
        output_size: Side of what is pooled.
    """

    def __init__(self, strides: Sequence[int], output_size: int) -> None:
        super().__init__([str(stride) for stride in strides], output_size, sampling_ratio=0)
        self.strides = tuple(strides)
        self.level_of = LevelMapper(int(log2(strides[0])), int(log2(strides[-1])))

    def forward(self, x: dict[str, Tensor], boxes: list[Tensor], image_shapes: list[tuple[int, int]]) -> Tensor:
        """Map maps `(B, C, H, W)` by their strides, and boxes `(N, 4)` of each image, to `(all N, C, side, side)`."""
        numbers = torch.cat([torch.full_like(each[:, :1], image) for image, each in enumerate(boxes)])
        regions, levels = torch.cat([numbers, torch.cat(boxes)], dim=1), self.level_of(boxes)
        pooled = [
            roi_align(x[str(stride)], regions[levels == level], self.output_size, 1 / stride, aligned=True)
            for level, stride in enumerate(self.strides)
        ]
        order = torch.cat([torch.where(levels == level)[0] for level in range(len(self.strides))])
        return torch.cat(pooled)[order.argsort()]
