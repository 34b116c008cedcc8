"""The settings of a detector, and the strides of its pyramid."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from shvit_pl.command_line import ranges
from shvit_pl.errors import refuse

DetectorName = Literal["retinanet", "mask_rcnn"]

LEVELS: dict[str, tuple[int, ...]] = {"retinanet": (8, 16, 32, 64, 128), "mask_rcnn": (4, 8, 16, 32, 64)}
"""Strides of the pyramid's maps (paper Table 5's detectors)."""
_ANCHOR_SCALES = {"retinanet": 4.0, "mask_rcnn": 8.0}
GROUPS = 32
"""Of GroupNorm, in a head that has it."""


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
    score: ranges.Probability = 0.05
    """Least score of a detection."""
    nms: ranges.Share = 0.5
    """Overlap (IoU) above which the lower of two detections of a class is dropped."""
    detections: ranges.FromOne = 100
    """Most detections of an image."""

    def __post_init__(self) -> None:
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
        if self.norm == "group" and self.width % GROUPS:
            yield f"model.detector.width {self.width}: with norm group, allowed are multiples of {GROUPS}."
        if self.box_loss != "l1" and self.name != "retinanet":
            yield f"model.detector.box_loss {self.box_loss}: {self.name} has l1; leave it out, or give name retinanet."
        if not self.anchor_ratios or min(self.anchor_ratios) <= 0:
            yield f"model.detector.anchor_ratios {list(self.anchor_ratios)}: allowed are numbers above 0, one or more."
