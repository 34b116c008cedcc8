"""How the data module's settings read its rows."""

from __future__ import annotations

from typing import Any

from shvit_pl.data.dataset import RowReader
from shvit_pl.data.on_device import PlannedCrop
from shvit_pl.data.rows import ChosenRows
from shvit_pl.data.transforms import eval_transform, train_transform


def train_reader(hp: Any, chosen: ChosenRows) -> RowReader:
    """The reader of training images, augmented or, with `augment_on` device, ready for it."""
    if hp.augment_on == "device":
        return _reader(hp, chosen, PlannedCrop(hp.image_size, hp.color_jitter))
    transform = train_transform(hp.image_size, hp.crop_pct, hp.augment, hp.auto_augment, hp.color_jitter)
    return _reader(hp, chosen, transform)


def eval_reader(hp: Any, chosen: ChosenRows) -> RowReader:
    """The reader of images that are evaluated or predicted; without labels where there are none."""
    return _reader(hp, chosen, eval_transform(hp.image_size, hp.crop_pct, hp.resize))


def _reader(hp: Any, chosen: ChosenRows, transform: Any) -> RowReader:
    return RowReader(chosen.image_column, chosen.label_column, transform, hp.image_size, hp.exif_rotation)
