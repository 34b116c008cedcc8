"""The settings of images with objects, checked before anything is opened."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from shvit_pl.command_line import ranges
from shvit_pl.data.config import SplitConfig

SCENES = "digit_scenes"
DATASET_SETTINGS = (  # not for another dataset
    *("name", "revision", "train_split", "validation_split", "train_fraction"),
    *("image_column", "objects_column", "bbox_key", "category_key", "mask_key", "box_format"),
)
BoxFormat = Literal["xywh", "xyxy", "cxcywh", "yolo"]


@dataclass(frozen=True)
class ObjectsConfig(SplitConfig):
    """Data and augmentation."""

    path: str = SCENES
    """digit_scenes (embedded), a folder (COCO, Roboflow, YOLO, metadata.jsonl), a file or folder of parquet, or a Hub
    id."""
    objects_column: str | None = None
    """Column of the objects (default: the only one that holds boxes)."""
    bbox_key: str | None = None
    """Field of the boxes in it (default: bbox, bboxes, boxes, ...)."""
    category_key: str | None = None
    """Field of the classes in it (default: category, category_id, label, ...)."""
    mask_key: str | None = None
    """Field of the masks in it (default: segmentation, masks, ...)."""
    box_format: BoxFormat | Literal["auto"] = "auto"
    """The four numbers of a box: xywh, xyxy, cxcywh, yolo (shares of the image), or auto: by evidence, or refused."""
    crowd: Literal["ignore", "object"] = "ignore"
    """What crowds (iscrowd 1) are: neither trained on nor punished, or objects like others."""
    keep_empty: bool = True
    """Train on images without objects, too."""
    scenes: ranges.FromOne = 1200
    """Scenes of an epoch of digit_scenes; each epoch has new ones."""
    min_size: ranges.FromOne = 800
    """Shorter side of an image in pixels, unless the longer one would exceed max_size."""
    max_size: ranges.FromOne = 1333
    """Most pixels of the longer side."""
    scales: list[int] | None = None
    """Shorter sides to draw from in training (multi-scale), such as [480, 640, 800]."""
    flip: ranges.Probability = 0.5
    """Probability of a training image to be flipped left to right."""
    exif_rotation: bool | Literal["auto"] = "auto"
    """Turn images upright as their EXIF block says; auto: annotated ones where only the turned image has the annotated
    size, or in YOLO's folders, and those to predict on that are not annotated."""
    most_objects: ranges.FromOne | None = None
    """Most objects of an image to train on, drawn anew each time (default: all)."""
    batch_size: ranges.FromOne = 2
    """Images per step and device."""
    group_by_aspect_ratio: bool = True
    """Train on batches of images that all lie or all stand, so that less is padded."""

    def _contradictions(self) -> Iterator[str]:
        if self.max_size < self.min_size:
            yield f"data.max_size {self.max_size}: allowed are whole numbers from data.min_size, {self.min_size}."
        if self.scales is not None and (not self.scales or min(self.scales) < 1):
            yield f"data.scales {self.scales}: allowed are sides in pixels, such as [480, 640, 800]."
        elif self.scales is not None and max(self.scales) > self.max_size:
            yield f"data.scales {self.scales}: allowed are sides up to data.max_size, {self.max_size}."
