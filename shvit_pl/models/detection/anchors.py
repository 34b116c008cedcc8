"""Anchors at the true strides of their maps, not rounded, as mmdetection has them."""

from collections.abc import Sequence
from dataclasses import replace
from math import isnan, log
from typing import Any, Self

import torch
from torch import Tensor
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList

from shvit_pl.designs.detector import DetectorConfig


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

    @classmethod
    def of(cls, config: DetectorConfig) -> Self:
        """Return the anchors of a detector."""
        return cls(config.levels, config.scale, config.anchor_ratios, config.octaves)

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

    def best_overlaps(self, boxes: Tensor, sizes: Tensor) -> Tensor:
        """Return the largest IoU `(N,)` of each box `(N, 4)` with an anchor, in images of these `sizes` `(N, 2)`.

        Sizes are heights and widths. Of each shape, the anchor whose center is nearest overlaps most.
        """
        best = boxes.new_zeros(len(boxes))
        corner, extent = boxes[:, :2], boxes[:, 2:] - boxes[:, :2]
        self.set_cell_anchors(boxes.dtype, boxes.device)
        for stride, around in zip(self.strides, self.cell_anchors, strict=True):
            last = (sizes.flip(1) / stride).ceil() - 1
            center = ((corner + extent / 2) / stride).round().clamp(max=last) * stride
            anchors = center.repeat(1, 2)[:, None] + around
            low, high = torch.max(anchors[..., :2], corner[:, None]), torch.min(anchors[..., 2:], boxes[:, None, 2:])
            shared = (high - low).clamp(min=0).prod(2)
            union = extent.prod(1)[:, None] + (around[:, 2:] - around[:, :2]).prod(1) - shared
            best = best.maximum((shared / union).amax(1))
        return best


_MATCHED = 0.5  # least overlap of an anchor that RetinaNet matches with an object
_FEW = 0.95
_SCALES = (0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0, 32.0)


def best_possible_recall(
    config: DetectorConfig, boxes: Tensor, labels: Tensor, sizes: Tensor, names: Sequence[str]
) -> dict[str, Any]:
    """Return the share of objects that some anchor overlaps by an IoU of 0.5, of `all` and `by_class`.

    Where that is less than 95 %, `better_scale` is the `anchor_scale` with the largest share, and `better` that share,
    if it is larger by a percent or more.

    Args:
        config: The detector.
        boxes: Of objects, `(N, 4)`, in pixels of the images as they are trained on.
        labels: Of the objects `(N,)`.
        sizes: Heights and widths of their images `(N, 2)`.
        names: Of the classes.
    """

    def reached(scale: float) -> Tensor:
        return Anchors.of(replace(config, anchor_scale=scale)).best_overlaps(boxes, sizes) >= _MATCHED

    own = reached(config.scale)
    share = own.double().mean().item()
    by_class = {name: own[labels == label].double().mean().item() for label, name in enumerate(names)}
    found = {"all": share, "by_class": {name: value for name, value in by_class.items() if not isnan(value)}}
    if share < _FEW:
        shares = {scale: reached(scale).double().mean().item() for scale in _SCALES}
        scale = max(
            shares, key=lambda each: (shares[each], -abs(log(each / config.scale)))
        )  # the nearest of equal ones
        if shares[scale] >= share + 0.01:
            found |= {"better_scale": scale, "better": shares[scale]}
    return found
