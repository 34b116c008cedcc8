"""Anchors at the true strides of their maps, not rounded, as mmdetection has them."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList


class Anchors(AnchorGenerator):
    """Boxes of several sizes and shapes around each position `(x * stride, y * stride)` of each map.

    torchvision's own takes the stride from the sizes of image and map, and rounds the boxes: at 800x1344 pixels it
    believes in 61 and 64 where the stride is 64.

    Args:
        strides: Of the maps.
        scale: Side of the smallest square anchor in strides (RetinaNet: 4; the proposals of Mask R-CNN: 8).
        ratios: Heights over widths.
        octaves: Sizes of each shape: `scale * 2 ** (i / octaves)` strides.
    """

    def __init__(self, strides: Sequence[int], scale: float, ratios: Sequence[float], octaves: int = 1) -> None:
        self.strides = tuple(strides)
        sizes = tuple(tuple(stride * scale * 2 ** (i / octaves) for i in range(octaves)) for stride in strides)
        super().__init__(sizes, (tuple(ratios),) * len(sizes))

    def generate_anchors(
        self,
        scales: Sequence[float],
        aspect_ratios: Sequence[float],
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> Tensor:
        """Return boxes `(ratios * sizes, 4)` around the origin, the sizes of a shape one after the other."""
        heights = torch.tensor(aspect_ratios, dtype=torch.float64).sqrt()[:, None]
        sizes = torch.tensor(scales, dtype=torch.float64)[None]
        width, height = (sizes / heights).flatten(), (sizes * heights).flatten()
        return (torch.stack([-width, -height, width, height], dim=1) / 2).to(dtype).to(device)

    def forward(self, image_list: ImageList, feature_maps: list[Tensor]) -> list[Tensor]:
        """Return each image's anchors `(N, 4)` in pixels, map by map, in float32 whatever the maps are."""
        self.set_cell_anchors(torch.float32, feature_maps[0].device)
        strides: Any = [[stride, stride] for stride in self.strides]
        anchors = torch.cat(self.grid_anchors([list(each.shape[-2:]) for each in feature_maps], strides))
        return [anchors] * len(image_list.image_sizes)
