"""Random erasing, on the device, after normalisation as in the official recipe."""

from __future__ import annotations

from timm.data.random_erasing import RandomErasing
from torch import Tensor

from shvit_pl.randomness import seed_all


def erase(images: Tensor, probability: float, key: int) -> Tensor:
    """Replace a random rectangle by noise in some images `(B, 3, S, S)`, in place, by timm (mode pixel, one rectangle).

    Args:
        images: Normalised images.
        probability: Of an image to lose a rectangle.
        key: Seed; the training step then seeds anew.
    """
    seed_all(key)
    return RandomErasing(probability, mode="pixel", device=images.device)(images)
