"""What is done to a batch once it is on the device."""

from __future__ import annotations

from typing import Any

from shvit_pl.data.erasing import erase, erase_each
from shvit_pl.data.loaders import Batch
from shvit_pl.data.on_device import augmented
from shvit_pl.data.transforms import normalise


def finished(batch: Batch, hp: Any, mean: tuple[float, ...], std: tuple[float, ...]) -> Batch:
    """The batch with its images augmented, where the workers have left that, normalised, and in training erased.

    Args:
        batch: On the device.
        hp: The data module's settings.
        mean: Of the normalisation, per channel.
        std: Likewise.
    """
    pixels = augmented(batch, hp["image_size"]) if "plan" in batch else batch["image"]
    images = normalise(pixels, mean, std)
    if "key" in batch and hp["erasing"] > 0:
        by_key: Any = erase_each if "mix" in batch else erase
        images = by_key(images, hp["erasing"], batch["key"])
    return {**batch, "image": images}
