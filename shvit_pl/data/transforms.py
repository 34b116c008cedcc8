"""Resizing and augmentation on uint8 tensors; normalisation comes later, on the device."""

from __future__ import annotations

from typing import Literal

import torch
from torchvision.transforms import InterpolationMode, v2

Resize = Literal["crop", "squash"]
Augment = Literal["none", "shift", "crop"]
_BICUBIC = InterpolationMode.BICUBIC


def eval_transform(size: int, crop_pct: float, resize: Resize = 'crop') -> v2.Compose:
    """Resize the shorter side to `size / crop_pct` pixels and crop the centre: `(3, H, W)` to `(3, size, size)`."""
    return v2.Compose([v2.Resize(int(size / crop_pct), interpolation=_BICUBIC), v2.CenterCrop(size)])


def train_transform(size: int, crop_pct: float, augment: Augment, auto_augment: str | None = None, color_jitter: float = 0.0) -> v2.Compose:
    """Augmentation that the data allows.

    Args:
        size: Side of the result in pixels.
        crop_pct: As in `eval_transform`, for `none` and `shift`.
        augment: `none`; `shift` moves the image by up to an eighth (digits: a flipped 2 is no 2); `crop` is the random
            resized crop and horizontal flip of natural images.
    """
    if augment == "crop":
        return v2.Compose([v2.RandomResizedCrop(size, interpolation=_BICUBIC), v2.RandomHorizontalFlip()])
    steps = [eval_transform(size, crop_pct)]
    if augment == "shift":
        steps.append(v2.RandomAffine(degrees=0, translate=(1 / 8, 1 / 8)))
    return v2.Compose(steps)


def denormalise(images: torch.Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> torch.Tensor:
    """The inverse of `normalise`, as float32 in [0, 1]."""
    shape = (1, -1, 1, 1)
    return (images * images.new_tensor(std).view(shape) + images.new_tensor(mean).view(shape)).clamp(0, 1)


def normalise(images: torch.Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> torch.Tensor:
    """uint8 `(B, 3, H, W)` to normalised float32 on the same device."""
    return v2.functional.normalize(v2.functional.to_dtype(images, torch.float32, scale=True), list(mean), list(std))
