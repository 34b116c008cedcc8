"""What a dataset says of its images and objects, the same for every format; nothing is judged yet."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from math import nan
from typing import Any

import pyarrow as pa
from datasets import Dataset

from shvit_pl.data.objects.config import BoxFormat
from shvit_pl.errors import visible
from shvit_pl.files import from_text


@dataclass
class Annotations:
    """The images and objects of a split as they are written: lists by image, and lists by object."""

    split: str
    """Its name."""
    unit: str = "image"
    """What the dataset calls one of its entries: image, row, line."""
    paths: list[str] = field(default_factory=list)
    """By image: its file as text; empty where the images are a column of `stored`."""
    names: list[str] = field(default_factory=list)
    """By image: its name for messages."""
    image_ids: list[Any] = field(default_factory=list)
    """By image: as the dataset has it, or else the name of its file or the number of its row."""
    sizes: list[tuple[int, int] | None] = field(default_factory=list)
    """By image: width and height as annotated, if they are."""
    rows: list[int] = field(default_factory=list)
    """By object: its image's place in the lists above; it never falls."""
    boxes: list[Sequence[float | None]] = field(default_factory=list)
    """By object: four numbers."""
    categories: list[Any] = field(default_factory=list)
    """By object: a number or a name."""
    areas: list[float] = field(default_factory=list)
    """By object: pixels, NaN where not given."""
    crowds: list[bool] = field(default_factory=list)
    """By object: whether it is a crowd."""
    masks: list[Any] = field(default_factory=list)
    """By object: COCO's polygons or runs, or None."""
    stored: Dataset | None = None
    """The column `image` of a dataset that holds the images, row by row, as Arrow."""

    def add_image(self, name: str, image_id: Any, size: tuple[int, int] | None = None, path: str = "") -> None:
        """Add an image, to which the objects that follow belong."""
        self.names.append(name)
        self.image_ids.append(image_id)
        self.sizes.append(size)
        self.paths.append(path)

    def add(self, box: Any, category: Any, area: Any = None, crowd: Any = False, mask: Any = None) -> None:
        """Add an object of the last image."""
        self.rows.append(len(self.names) - 1)
        self.boxes.append(box)
        self.categories.append(category)
        self.areas.append(number_or(nan, area))
        self.crowds.append(number_or(0, crowd) == 1)
        self.masks.append(mask)

    def where(self, index: int) -> str:
        """Name an object for a message: its split, image and place."""
        row = self.rows[index]
        place = index - self.rows.index(row)
        return visible(f"{self.image(row)}, object {place}")

    def image(self, row: int) -> str:
        """Name an image for a message."""
        name = f" ({self.names[row]})" if self.names[row] not in ("", self.image_ids[row]) else ""
        return visible(f"{self.split} {self.unit} {row}, image_id {self.image_ids[row]!r}{name}")

    def open(self, row: int) -> Any:
        """Return what PIL can open: an image's path, or its stored bytes without a copy; None where it has none."""
        if self.stored is None:
            return from_text(self.paths[row])
        image = self.stored[row]["image"][0]
        data, path = image["bytes"], image["path"].as_py()
        return pa.BufferReader(data.as_buffer()) if data.is_valid else path and from_text(path)


def number_or(default: float, value: Any) -> float:
    """Return a number that may be written as text, or the default for what is none."""
    with suppress(TypeError, ValueError):
        return float(value)
    return default


def stats_of(paths: Iterable[str]) -> list[tuple[str, int, int]]:
    """Return paths with the size and the time of each file, 0 where there is none, by which a change is seen."""
    stats = []
    for path in paths:
        size = time = 0
        with suppress(OSError):
            status = from_text(path).stat()
            size, time = status.st_size, status.st_mtime_ns
        stats.append((path, size, time))
    return stats


def size_of(entry: Mapping[str, Any]) -> tuple[int, int] | None:
    """Return an image's width and height as annotated; None where they are not."""
    width, height = (number_or(0, entry.get(name)) for name in ("width", "height"))
    return (int(width), int(height)) if width >= 1 and height >= 1 else None


@dataclass
class Found:
    """All splits of a dataset as they are written."""

    splits: dict[str, Annotations]
    """By name."""
    categories: dict[Any, str] | None = None
    """Names of the category numbers; None where categories are names, or numbers without names."""
    box_format: BoxFormat | None = None
    """What boxes are by the format's definition, if it says so."""
    usual: BoxFormat | None = None
    """What they are by custom: believed only where nothing contradicts."""
    usual_of: str = ""
    """Whose custom that is."""
    upright: bool = False
    """Whether sizes are those of images turned by their EXIF block, where nothing else tells."""
    masks_are_shares: bool = False
    """Whether the numbers of polygons are shares of the image, and not pixels."""
    missing: list[str] = field(default_factory=list)
    """Images that are listed and not there: left out."""
    lost: dict[str, list[str]] = field(default_factory=dict)
    """Objects that are left out already, each named, by reason."""
    files: str = ""
    """What became of the files of a folder, in a line."""


@dataclass(frozen=True)
class Source:
    """A dataset that is recognized, and not read yet."""

    format: str
    """Its name for messages."""
    stamp: Any
    """What its rows depend on, as JSON: paths, sizes and times of files, or fingerprints."""
    read: Callable[[], Found]
    """Reads it."""
    images: dict[str, Dataset] = field(default_factory=dict)
    """By split: the column `image`, where a dataset holds the images."""
    commit: str | None = None
    """The version of a dataset of the Hub."""
