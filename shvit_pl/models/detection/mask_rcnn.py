"""Mask R-CNN on any SHViT: torchvision's proposals, heads, matchers, losses and NMS."""

from collections.abc import Sequence
from math import log2
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models import detection
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.models.detection.rpn import RegionProposalNetwork
from torchvision.ops import MultiScaleRoIAlign, roi_align
from torchvision.ops.poolers import LevelMapper

from shvit_pl.designs.design import Design
from shvit_pl.designs.detector import DetectorConfig
from shvit_pl.models.detection.anchors import Anchors
from shvit_pl.models.detection.pyramid import Features
from shvit_pl.models.detection.retinanet import Objects, Sizes, in_crowd, norm_layer
from shvit_pl.models.shvit import build_network

_POOLED = 4  # levels: the coarsest one only proposes


class MaskRCNN(detection.MaskRCNN):
    """Boxes and masks of classes from 0, in regions that a network on the pyramid proposes.

    Args:
        design: The backbone, which is `backbone.net`.
        config: The detector.
        num_classes: Classes, without a background.
    """

    def __init__(self, design: Design, config: DetectorConfig, num_classes: int) -> None:
        pooled = config.levels[:_POOLED]
        super().__init__(
            Features(build_network(design, num_classes=0), config.levels, config.width),
            num_classes + 1,  # torchvision's background is class 0
            rpn_anchor_generator=Anchors.of(config),
            box_roi_pool=AlignedRoIAlign(pooled, 7),
            mask_roi_pool=AlignedRoIAlign(pooled, 14),
            mask_head=MaskRCNNHeads(config.width, [config.width] * config.convs, 1, norm_layer=norm_layer(config)),
            rpn_pre_nms_top_n_train=2000,
            rpn_post_nms_top_n_train=1000,
            box_batch_size_per_image=config.regions,
            box_score_thresh=config.score,
            box_nms_thresh=config.nms,
            box_detections_per_img=config.detections,
        )
        self.roi_heads.mask_predictor = MaskRCNNPredictor(config.width, config.width, num_classes + 1)
        for part in (self.rpn.head, self.roi_heads.box_predictor, self.roi_heads.mask_predictor):
            part.register_forward_hook(_in_float32)  # NMS and losses would be coarse in bfloat16
        self.transform = nn.Identity()  # images come as a batch
        self.rpn.__class__, self.roi_heads.__class__ = _Proposals, _Heads

    def forward(self, images: Tensor, sizes: Sizes, targets: list[Objects] | None = None) -> Any:
        """Map normalized images `(B, 3, H, W)`, padded from their `sizes`, to losses by name, or to `Objects` of each.

        Losses come where there are targets, whose `masks` are `(N, H, W)`. Those that are found are probabilities
        `(N, 1, 28, 28)` within each box.
        """
        maps, sizes = self.backbone(images), list(sizes)
        if targets is not None:
            targets = [{**each, "labels": each["labels"] + 1} for each in targets]
        proposals, losses = self.rpn(ImageList(images, sizes), maps, targets)
        found, of_heads = self.roi_heads(maps, proposals, sizes, targets)
        if targets is not None:
            return {**losses, **of_heads}
        return [{**each, "labels": each["labels"] - 1} for each in found]


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


def _in_float32(module: nn.Module, inputs: Any, outputs: Any) -> Any:
    """Return the outputs of a layer, a tensor or a list of them or of such, in float32."""
    if isinstance(outputs, Tensor):
        return outputs.float()
    return [_in_float32(module, inputs, each) for each in outputs]


class _Proposals(RegionProposalNetwork):
    """torchvision's, where anchors that lie mostly in a crowd don't count."""

    def assign_targets_to_anchors(
        self, anchors: list[Tensor], targets: list[Objects]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Return labels (1 object, 0 background, -1 does not count) and boxes of each image's anchors."""
        labels, boxes = super().assign_targets_to_anchors(anchors, targets)
        for label, own, target in zip(labels, anchors, targets, strict=True):
            label[(label == 0) & in_crowd(own, target)] = -1
        return labels, boxes


class _Heads(RoIHeads):
    """torchvision's, where proposals that lie mostly in a crowd don't count."""

    def select_training_samples(self, proposals: list[Tensor], targets: list[Objects]) -> Any:
        """Sample proposals; `assign_targets_to_proposals` is not given the crowds."""
        self._targets = targets
        return super().select_training_samples(proposals, targets)

    def assign_targets_to_proposals(
        self, proposals: list[Tensor], gt_boxes: list[Tensor], gt_labels: list[Tensor]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Return the object of each proposal, and its label: 0 background, -1 does not count."""
        matches, labels = super().assign_targets_to_proposals(proposals, gt_boxes, gt_labels)
        for label, own, target in zip(labels, proposals, self._targets, strict=True):
            label[(label == 0) & in_crowd(own, target)] = -1
        return matches, labels
