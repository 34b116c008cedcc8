"""RetinaNet on any SHViT: torchvision's heads, matcher, losses and NMS."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn
from torchvision.models import detection
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.retinanet import RetinaNetHead

from shvit_pl.designs.design import Design
from shvit_pl.designs.detector import GROUPS, DetectorConfig
from shvit_pl.models.detection.anchors import Anchors
from shvit_pl.models.detection.pyramid import Features
from shvit_pl.models.shvit import build_network

Sizes = Sequence[tuple[int, int]]
Objects = dict[str, Tensor]
"""Of an image: `boxes` `(N, 4)` in pixels (x1, y1, x2, y2), `labels` `(N,)` from 0, `scores` `(N,)` of those found."""


class RetinaNet(detection.RetinaNet):  # type: ignore[misc]
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
            anchor_generator=Anchors(config.levels, config.scale, config.anchor_ratios, config.octaves),
            head=head,
            score_thresh=config.score,
            nms_thresh=config.nms,
            detections_per_img=config.detections,
        )
        self.transform = nn.Identity()  # images come as a batch

    def forward(self, images: Tensor, sizes: Sizes, targets: list[Objects] | None = None) -> Any:
        """Map normalized images `(B, 3, H, W)`, padded from their `sizes`, to losses by name, or to `Objects` of each.

        Losses come where there are targets.
        """
        maps = list(self.backbone(images).values())
        outputs = {name: output.float() for name, output in self.head(maps).items()}
        anchors = self.anchor_generator(ImageList(images, list(sizes)), maps)
        if targets is not None:
            return self.compute_loss(targets, outputs, anchors)
        number = self.anchor_generator.num_anchors_per_location()[0]
        counts = [number * each.shape[-2] * each.shape[-1] for each in maps]
        levels = {name: list(output.split(counts, dim=1)) for name, output in outputs.items()}
        return self.postprocess_detections(levels, [list(each.split(counts)) for each in anchors], list(sizes))


def norm_layer(config: DetectorConfig) -> Callable[[int], nn.Module] | None:
    """Return the maker of a head's norms; None without."""
    return partial(nn.GroupNorm, GROUPS) if config.norm == "group" else None
