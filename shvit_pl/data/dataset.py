"""Rows of a Hugging Face dataset as decoded, transformed images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor

from shvit_pl.data.batch_transform import PlannedCrop
from shvit_pl.data.config import DataConfig
from shvit_pl.data.decode import BrokenImage, decode
from shvit_pl.data.rows import ChosenRows
from shvit_pl.data.samplers import Draw
from shvit_pl.data.transforms import eval_transform, train_transform
from shvit_pl.randomness import seeded

Item = dict[str, Any]
IGNORED = -1  # the label of what is not evaluated: padding, and images that can't be decoded


@dataclass(frozen=True)
class RowReader:
    """Makes an item of one row: `image` uint8 `(3, S, S)`, `file`, `broken` and, where there is a label, `label`.

    `broken` is empty, or says why the image could not be decoded; then the image is black and the label `IGNORED`.
    """

    image_column: str
    """The column of encoded images."""
    label_column: str | None
    """The column of class indices, if there is one."""
    transform: Callable[[Tensor], Tensor | tuple[Tensor, Tensor]]
    """From uint8 `(3, H, W)` to `(3, S, S)`, or to a crop and its `plan` (see `batch_transform`)."""
    size: int
    """S."""
    exif_rotation: bool = False
    """Turn images upright as their EXIF block says."""

    def read(self, row: dict[str, Any], name: str, key: tuple[int, ...] = ()) -> Item:
        """Decode and transform, drawing random numbers by `key`."""
        file = (row[self.image_column] and row[self.image_column]["path"]) or name
        try:
            image = decode(row[self.image_column], file, self.exif_rotation)
        except BrokenImage as error:
            return self.placeholder(file, str(error))
        with seeded(*key):
            return self._item(self.transform(image), file, "", row.get(self.label_column or "", IGNORED))

    def placeholder(self, file: str = "", broken: str = "") -> Item:
        """Return an item that is not evaluated."""
        return self._item(torch.zeros(3, self.size, self.size, dtype=torch.uint8), file, broken, IGNORED)

    def _item(self, image: Tensor | tuple[Tensor, Tensor], file: str, broken: str, label: int) -> Item:
        pixels, *plan = image if isinstance(image, tuple) else (image,)
        item = {"image": pixels, "file": file, "broken": broken, **({"plan": plan[0]} if plan else {})}
        return item if self.label_column is None else {**item, "label": label}


def train_reader(config: DataConfig, chosen: ChosenRows) -> RowReader:
    """Return the reader of training images, augmented or, with `augment_on` device, ready for it."""
    on_device = config.augment_on == "device"
    transform = PlannedCrop(config.side, config.color_jitter) if on_device else train_transform(config)
    return _reader(config, chosen, transform)


def eval_reader(config: DataConfig, chosen: ChosenRows) -> RowReader:
    """Return the reader of images that are evaluated or predicted; without labels where there are none."""
    return _reader(config, chosen, eval_transform(config.side, config.crop_pct, config.resize))


def _reader(config: DataConfig, chosen: ChosenRows, transform: Any) -> RowReader:
    return RowReader(chosen.image_column, chosen.label_column, transform, config.side, config.exif_rotation)


class ImageDataset(torch.utils.data.Dataset[Item]):
    """Map-style rows, asked for by `Draw`.

    In training, a broken image is replaced by the next whole one, for the batch to keep its size.
    """

    def __init__(self, rows: Dataset, reader: RowReader, training: bool = False) -> None:
        self.rows = rows
        self.reader = reader
        self.training = training

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, draw: Draw) -> Item:
        if not draw.counted:
            return self.reader.placeholder()
        item = self._read(draw.row, draw.key)
        if not self.training:
            return item
        return {**self._replaced(item, draw), "key": hash(draw.key)}

    def _read(self, index: int, key: tuple[int, ...]) -> Item:
        return self.reader.read(self.rows[index], f"row {index}", key)

    def _replaced(self, item: Item, draw: Draw) -> Item:
        broken, index = item["broken"], draw.row
        while item["broken"] and (index := (index + 1) % len(self.rows)) != draw.row:
            item = self._read(index, draw.key)
        return {**item, "broken": broken}
