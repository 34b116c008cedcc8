"""Resizing and augmentation on uint8 tensors; normalisation comes later, on the device."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Literal

import torch
from torch import Tensor
from torchvision.transforms import ColorJitter, InterpolationMode, v2

from shvit_pl.data import auto_augment as policies
from shvit_pl.data.auto_augment import OnPIL

Augment = Literal["none", "shift", "crop"]
Resize = Literal["crop", "squash"]
_BICUBIC = InterpolationMode.BICUBIC


def eval_transform(size: int, crop_pct: float, resize: Resize = "crop") -> v2.Compose:
    """The official evaluation: uint8 `(3, H, W)` to `(3, size, size)`.

    Args:
        size: Side of the result in pixels.
        crop_pct: The side's share of the resized image that the central crop keeps.
        resize: `crop` resizes the shorter side to `size / crop_pct` and crops the centre; `squash` resizes both sides
            to `size`, without a crop (the official fine-tuning).
    """
    if resize == "squash":
        return v2.Compose([v2.Resize((size, size), interpolation=_BICUBIC), _contiguous])
    return v2.Compose([v2.Resize(int(size / crop_pct), interpolation=_BICUBIC), v2.CenterCrop(size), _contiguous])


def train_transform(
    size: int, crop_pct: float, augment: Augment, auto_augment: str | None = None, color_jitter: float = 0.0
) -> v2.Compose:
    """Augmentation that the data allows: uint8 `(3, H, W)` to `(3, size, size)`.

    It draws from the global generators of torch, `random` and numpy.

    Args:
        size: Side of the result in pixels.
        crop_pct: As in `eval_transform`, for `none` and `shift`.
        augment: `none`; `shift` moves the image by up to an eighth (digits: a flipped 2 is no 2); `crop` is the random
            resized crop and horizontal flip of natural images.
        auto_augment: timm's name of a RandAugment (`rand-m9-mstd0.5-inc1`), or `3a` (3-Augment).
        color_jitter: Strength for brightness, contrast and saturation; as in timm, it has no effect with RandAugment.

    Raises:
        UserError: for an `auto_augment` that is neither.
    """
    if augment == "crop":
        steps = [RandomResizedCrop(size), v2.RandomHorizontalFlip()]
    else:
        steps = [eval_transform(size, crop_pct)]
    if augment == "shift":
        steps.append(v2.RandomAffine(degrees=0, translate=(1 / 8, 1 / 8)))
    colours = _colours(size, auto_augment, color_jitter)
    if colours:
        steps.append(_Pictured(colours))
    return v2.Compose([*steps, _contiguous])


def _colours(size: int, auto_augment: str | None, color_jitter: float) -> list[OnPIL]:
    steps: list[OnPIL] = [policies.build(auto_augment, size)] if auto_augment is not None else []
    if color_jitter and auto_augment in (None, policies.THREE_AUGMENT):
        steps.append(ColorJitter(color_jitter, color_jitter, color_jitter))
    return steps


class RandomResizedCrop(v2.RandomResizedCrop):
    """Torchvision's, with the pixels' channels kept together in memory: its kernel and PIL want them so."""

    def transform(self, inpt: Tensor, params: dict[str, Any]) -> Tensor:
        """Crop and resize `(3, H, W)`."""
        return resized(v2.functional.crop_image(inpt, **params), self.size)


def resized(image: Tensor, size: list[int]) -> Tensor:
    """Resize uint8 `(3, H, W)` to `size`, bicubic, with antialiasing."""
    together = image[None].contiguous(memory_format=torch.channels_last)
    return v2.functional.resize_image(together, size, _BICUBIC, antialias=True)[0]


class _Pictured:
    """Steps that are defined on PIL images, for tensors."""

    def __init__(self, steps: Sequence[OnPIL]) -> None:
        self.steps = steps

    def __call__(self, image: Tensor) -> Tensor:
        picture = v2.functional.to_pil_image(image)
        for step in self.steps:
            picture = step(picture)
        return v2.functional.pil_to_tensor(picture)


def _contiguous(image: Tensor) -> Tensor:
    return image.contiguous()


def denormalise(images: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """The inverse of `normalise`, as float32 in [0, 1]."""
    shape = (1, -1, 1, 1)
    return (images * images.new_tensor(std).view(shape) + images.new_tensor(mean).view(shape)).clamp(0, 1)


def normalise(images: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """uint8 `(B, 3, H, W)` to normalised float32 on the same device."""
    pixels = v2.functional.to_dtype(images, torch.float32, scale=True)
    return v2.functional.normalize(pixels, _on(images.device, mean), _on(images.device, std), inplace=True)


@lru_cache(maxsize=16)
def _on(device: torch.device, values: tuple[float, ...]) -> Any:
    """Made once for each device, as the program waits for the copy."""
    with torch.inference_mode(False):
        return torch.tensor(values, device=device)
