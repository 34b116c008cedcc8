"""RetinaNet on any SHViT: torchvision's heads, matcher, losses and NMS."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models import detection
from torchvision.models.detection._utils import Matcher
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.retinanet import RetinaNetHead
from torchvision.ops import box_area, box_iou

from shvit_pl.designs.design import Design
from shvit_pl.designs.detector import CHANNELS, DetectorConfig
from shvit_pl.models.detection.anchors import Anchors
from shvit_pl.models.detection.pyramid import Features
from shvit_pl.models.shvit import build_network

_BELOW, _BETWEEN = Matcher.BELOW_LOW_THRESHOLD, Matcher.BETWEEN_THRESHOLDS  # background, and what does not count
Sizes = Sequence[tuple[int, int]]
Objects = dict[str, Tensor]
"""Of an image: `boxes` `(N, 4)` in pixels (x1, y1, x2, y2), `labels` `(N,)` from 0, `scores` `(N,)` of those found.
Targets may have `crowds` `(M, 4)`, in which nothing is background."""


class RetinaNet(detection.RetinaNet):
    """Boxes of classes from 0, found around anchors at every position of the pyramid.

    Args:
        design: The backbone, which is `backbone.net`.
        config: The detector.
        num_classes: Classes, without a background.
    """

    def __init__(self, design: Design, config: DetectorConfig, num_classes: int) -> None:
        head = RetinaNetHead(config.width, config.anchors, num_classes, norm_layer=norm_layer(config))
        for part in (head.classification_head, head.regression_head):
            part.conv = part.conv[: config.convs]
        head.regression_head._loss_type = config.box_loss
        super().__init__(
            Features(build_network(design, num_classes=0), config.levels, config.width),
            num_classes,
            anchor_generator=Anchors.of(config),
            head=head,
            score_thresh=config.score,
            nms_thresh=config.nms,
            detections_per_img=config.detections,
        )
        self.transform = nn.Identity()  # images come as a batch

    def compute_loss(
        self, targets: list[Objects], head_outputs: dict[str, Tensor], anchors: list[Tensor]
    ) -> dict[str, Tensor]:
        """Return the losses by name; anchors that lie mostly in a crowd don't count."""
        matches = []
        for own, target in zip(anchors, targets, strict=True):
            match = torch.full((len(own),), _BELOW, device=own.device)
            if len(target["boxes"]):
                match = self.proposal_matcher(box_iou(target["boxes"], own))
            matches.append(match.masked_fill((match == _BELOW) & in_crowd(own, target), _BETWEEN))
        losses: dict[str, Tensor] = self.head.compute_loss(targets, head_outputs, anchors, matches)
        return losses

    def counts(self, maps: Sequence[Tensor]) -> list[int]:
        """Return the number of anchors of each map."""
        number: int = self.anchor_generator.num_anchors_per_location()[0]
        return [number * each.shape[-2] * each.shape[-1] for each in maps]

    def forward(self, images: Tensor, sizes: Sizes, targets: list[Objects] | None = None) -> Any:
        """Map normalized images `(B, 3, H, W)`, padded from their `sizes`, to losses by name, or to `Objects` of each.

        Losses come where there are targets.
        """
        maps = list(self.backbone(images).values())
        outputs = {name: output.float() for name, output in self.head(maps).items()}
        anchors = self.anchor_generator(ImageList(images, list(sizes)), maps)
        if targets is not None:
            return self.compute_loss(targets, outputs, anchors)
        counts = self.counts(maps)
        levels = {name: list(output.split(counts, dim=1)) for name, output in outputs.items()}
        return self.postprocess_detections(levels, [list(each.split(counts)) for each in anchors], list(sizes))


def in_crowd(boxes: Tensor, target: Objects) -> Tensor:
    """Return which boxes `(N, 4)` have more than half of their area in one of a target's `crowds` `(M, 4)`."""
    crowds = target.get("crowds")
    if crowds is None or not len(crowds):
        return torch.zeros(len(boxes), dtype=torch.bool, device=boxes.device)
    half, inside = box_area(boxes) / 2, torch.zeros(len(boxes), dtype=torch.bool, device=boxes.device)
    for crowd in crowds:  # one by one: there may be many, of 200 000 anchors
        low, high = torch.max(boxes[:, :2], crowd[:2]), torch.min(boxes[:, 2:], crowd[2:])
        inside |= (high - low).clamp(min=0).prod(1) > half
    return inside


def norm_layer(config: DetectorConfig) -> Callable[[int], nn.Module] | None:
    """Return the maker of a head's norms; None without."""
    return partial(nn.GroupNorm, config.width // CHANNELS) if config.norm == "group" else None
