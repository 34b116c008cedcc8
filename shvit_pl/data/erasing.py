"""Random erasing, on the device, after normalisation as in the official recipe."""

from __future__ import annotations

from collections.abc import Sequence

from timm.data.random_erasing import RandomErasing
from torch import Tensor

from shvit_pl.randomness import seed_all, seed_cpu, seeded


def erase(images: Tensor, probability: float, key: int) -> Tensor:
    """Replace a random rectangle by noise in some images `(B, 3, S, S)`, in place, by timm (mode pixel, one rectangle).

    Args:
        images: Normalised images.
        probability: Of an image to lose a rectangle.
        key: Seed; the training step then seeds anew.
    """
    seed_all(key)
    return RandomErasing(probability, mode="pixel", device=images.device)(images)


def erase_each(images: Tensor, probability: float, keys: Sequence[int]) -> Tensor:
    """As `erase`, but every image by a key of its own, and with the same noise on every device.

    Args:
        images: Normalised images `(B, 3, S, S)`, changed in place.
        probability: Of an image to lose a rectangle.
        keys: Seed of each image.
    """
    eraser = RandomErasing(probability, mode="pixel", device="cpu")
    with seeded():  # the states from before are restored
        for image, key in zip(images, keys, strict=True):
            seed_cpu(key)
            eraser(image)
    return images
