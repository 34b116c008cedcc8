"""The one layout of images with objects, whatever they came as; stored as Arrow, and mapped into memory."""

from dataclasses import dataclass, field
from typing import Any

from datasets import Features, Image, List, Value

OBJECT = {
    "bbox": List(Value("float32"), length=4),  # x1, y1, x2, y2 in pixels of the image as it is annotated
    "category": Value("int32"),  # from 0, without gaps
    "area": Value("float64"),  # pixels: of the mask, where there is one
    "iscrowd": Value("bool"),
    "polygons": List(List(Value("float32"))),  # rings x1, y1, x2, y2, ...; none where there is an `rle` or no mask
    "rle": Value("string"),  # COCO's compressed runs, of the image's size; "" where there are polygons or no mask
}
FEATURES = Features(
    {
        "image": Image(decode=False),  # {"bytes", "path"}
        "image_id": Value("string"),  # as JSON, so that it comes out as it came in: 7, or "a"
        "width": Value("int32"),
        "height": Value("int32"),
        "rotate": Value("bool"),  # turn it as its EXIF block says
        "objects": {name: List(kind) for name, kind in OBJECT.items()},  # lists of equal length
    }
)


@dataclass(frozen=True)
class Objects:
    """Images with objects of all splits, in the one layout."""

    splits: dict[str, Any] = field(default_factory=dict)
    """Rows of `FEATURES` by split."""
    class_names: list[str] | None = None
    """By the index in `category`; None for images to predict."""
    category_ids: list[int] | None = None
    """The dataset's own number of each class, for what leaves this program."""
    has_masks: bool = False
    """Whether every object has a mask."""
    counts: dict[str, int] = field(default_factory=dict)
    """What was kept, clipped and dropped, by reason: boxes, images."""
    notes: list[str] = field(default_factory=list)
    """Lines for the run's table: the box format with its evidence, what was clipped or dropped, rotations."""
    commit: str | None = None
    """The version of a dataset of the Hub."""
    files: str = ""
    """What became of the files of a folder, in a line."""
