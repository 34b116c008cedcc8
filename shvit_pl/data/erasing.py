"""Random erasing, on the device, after normalisation as in the official recipe."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from timm.data.random_erasing import RandomErasing
from torch import Tensor

from shvit_pl.data.transfer import sent
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
    drawn = [_Drawn(image) for image in images]
    with seeded():  # the states from before are restored
        for each, key in zip(drawn, keys, strict=True):
            seed_cpu(key)
            eraser(each)
    noise = [pixels.flatten() for each in drawn for _, pixels in each.written]
    if not noise:
        return images
    parts = iter(torch.split(sent(torch.cat(noise), images.device), [len(pixels) for pixels in noise]))  # in one copy
    for image, each in zip(images, drawn, strict=True):
        for place, pixels in each.written:
            image[place] = next(parts).view(pixels.shape)
    return images


class _Drawn:
    """Stands in for an image before timm's eraser, and keeps what it would write."""

    def __init__(self, image: Tensor) -> None:
        self.size, self.dtype = image.size, image.dtype
        self.written: list[tuple[Any, Tensor]] = []

    def __setitem__(self, place: Any, pixels: Tensor) -> None:
        self.written.append((place, pixels))
