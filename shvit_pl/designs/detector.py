"""The settings of a detector, the strides of its pyramid, and its cost in closed form."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from shvit_pl.command_line import ranges
from shvit_pl.designs.cost import Cost, cost_parts
from shvit_pl.designs.design import Design
from shvit_pl.errors import refuse

DetectorName = Literal["retinanet", "mask_rcnn"]

LEVELS: dict[str, tuple[int, ...]] = {"retinanet": (8, 16, 32, 64, 128), "mask_rcnn": (4, 8, 16, 32, 64)}
"""Strides of the pyramid's maps (paper Table 5's detectors)."""
_ANCHOR_SCALES = {"retinanet": 4.0, "mask_rcnn": 8.0}
MASKS = ("mask_rcnn",)
"""Detectors that find masks, too."""
CHANNELS = 8
"""Of a group of GroupNorm, in a head that has it: 32 groups for a width of 256."""
_POOLED, _HIDDEN = 7, 1024  # Mask R-CNN's: side of a pooled box, and width of the layers after it
_PROPOSALS = 1000  # of an image


@dataclass(frozen=True)
class DetectorConfig:
    """The detector on the backbone; the defaults are those of the paper's Table 5.

    Raises `UserError` with the field, its value and what is allowed.
    """

    name: DetectorName = "retinanet"
    """retinanet (boxes) or mask_rcnn (boxes and masks)."""
    width: ranges.FromOne = 256
    """Channels of the pyramid's maps and of the heads."""
    convs: ranges.FromOne = 4
    """3x3 convolutions of RetinaNet's heads and of Mask R-CNN's mask head."""
    norm: Literal["none", "group"] = "none"
    """none (the paper's) or group: GroupNorm in these heads, with which short trainings from scratch converge."""
    anchor_scale: ranges.Positive | None = None
    """Side of the smallest square anchor in strides (default: 4 for retinanet, 8 for mask_rcnn)."""
    anchor_ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    """Heights of the anchors over their widths."""
    box_loss: Literal["l1", "giou"] = "l1"
    """Loss of RetinaNet's boxes: l1 (the paper's) or giou."""
    regions: ranges.FromOne = 512
    """Proposed regions of an image that Mask R-CNN's heads are trained on."""
    score: ranges.Probability = 0.05
    """Least score of a detection."""
    nms: ranges.Share = 0.5
    """Overlap (IoU) above which the lower of two detections of a class is dropped."""
    detections: ranges.FromOne = 100
    """Most detections of an image."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "anchor_ratios", tuple(self.anchor_ratios))  # JSON has lists
        refuse([*ranges.out_of_range("model.detector", self), *self._contradictions()])

    @property
    def levels(self) -> tuple[int, ...]:
        """Strides of the pyramid's maps."""
        return LEVELS[self.name]

    @property
    def octaves(self) -> int:
        """Anchors of each shape: three in RetinaNet, one in Mask R-CNN."""
        return 3 if self.name == "retinanet" else 1

    @property
    def anchors(self) -> int:
        """Anchors at each position."""
        return self.octaves * len(self.anchor_ratios)

    @property
    def scale(self) -> float:
        """Side of the smallest square anchor in strides."""
        return self.anchor_scale if self.anchor_scale is not None else _ANCHOR_SCALES[self.name]

    def _contradictions(self) -> Iterator[str]:
        if self.norm == "group" and self.width % CHANNELS:
            yield f"model.detector.width {self.width}: with norm group, allowed are multiples of {CHANNELS}."
        if self.box_loss != "l1" and self.name != "retinanet":
            yield f"model.detector.box_loss {self.box_loss}: for retinanet; {self.name} has smooth L1. Leave it out."
        if self.regions != 512 and self.name != "mask_rcnn":
            yield f"model.detector.regions {self.regions}: {self.name} has none; leave it out, or give name mask_rcnn."
        if not self.anchor_ratios or min(self.anchor_ratios) <= 0:
            yield f"model.detector.anchor_ratios {list(self.anchor_ratios)}: allowed are numbers above 0, one or more."


def detector_cost(design: Design, config: DetectorConfig, classes: int, side: int) -> dict[str, Cost]:
    """Return the cost of `backbone` (unfused), `pyramid` and `head` for a square image of `side` pixels.

    The head of Mask R-CNN has its proposals at every position, the boxes of 1000 of them, and as many masks as there
    may be detections.
    """
    backbone = sum((part.cost for part in cost_parts(design, 1, side) if part.operation != "head"), Cost())
    width, grids = config.width, dict(zip(design.strides, design.grids(side), strict=True))
    used = [stride for stride in design.strides if stride >= config.levels[0]]
    channels = dict(zip(design.strides, design.embed_dim, strict=True))
    pyramid = sum((_conv(channels[stride], width, grids[stride], 1) for stride in used), Cost())
    sides, inputs = {stride: grids[stride] for stride in used}, channels[used[-1]]
    for level in sorted((level for level in config.levels if level < used[0]), reverse=True):
        before = sides[2 * level]
        sides[level] = 2 * before
        pyramid += Cost(4 * width**2 + width, 4 * width**2 * before**2)
    for level in config.levels:
        if level > used[-1]:
            sides[level] = -(-sides[level // 2] // 2)
            pyramid += _conv(inputs, width, sides[level], 3)
            inputs = width
        else:
            pyramid += _conv(width, width, sides[level], 3)
    head = _head(config, classes, [sides[level] for level in config.levels])
    return {"backbone": backbone, "pyramid": pyramid, "head": head}


def _head(config: DetectorConfig, classes: int, sides: list[int]) -> Cost:
    width, anchors, normed = config.width, config.anchors, config.norm == "group"
    hidden = _normed(width, width, normed) * config.convs
    if config.name == "retinanet":
        outputs = _of_position(width, anchors * classes, 3) + _of_position(width, 4 * anchors, 3)
        each = hidden * 2 + outputs
        return Cost(each.params, each.macs * sum(side**2 for side in sides))
    proposing = _of_position(width, width, 3) + _of_position(width, 5 * anchors, 1)
    box = _of_position(width * _POOLED**2, _HIDDEN, 1) + _of_position(_HIDDEN, _HIDDEN, 1)
    box += _of_position(_HIDDEN, 5 * (classes + 1), 1)
    up, logits = Cost(4 * width**2 + width, 4 * width**2), _of_position(width, classes + 1, 1)
    per_position = hidden.macs + up.macs + 4 * logits.macs  # before the mask is enlarged to twice its side
    mask = Cost(hidden.params + up.params + logits.params, per_position * (2 * _POOLED) ** 2)
    macs = proposing.macs * sum(side**2 for side in sides) + box.macs * _PROPOSALS + mask.macs * config.detections
    return Cost(proposing.params + box.params + mask.params, macs)


def _of_position(inputs: int, outputs: int, kernel: int) -> Cost:
    """Return the cost of a convolution with bias at one position."""
    weights = inputs * outputs * kernel**2
    return Cost(weights + outputs, weights)


def _conv(inputs: int, outputs: int, side: int, kernel: int) -> Cost:
    each = _of_position(inputs, outputs, kernel)
    return Cost(each.params, each.macs * side**2)


def _normed(inputs: int, outputs: int, normed: bool) -> Cost:
    """Return the cost at one position of a 3x3 convolution, whose bias a norm replaces by two numbers per channel."""
    each = _of_position(inputs, outputs, 3)
    return Cost(each.params + outputs * normed, each.macs)
