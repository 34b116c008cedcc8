"""Augmentation in the workers, on uint8 tensors; normalization comes later, on the device."""

from typing import Any

import torch
from PIL import Image, ImageOps
from timm.data.auto_augment import RandAugment, auto_augment_transform, rand_augment_transform
from timm.data.constants import IMAGENET_DEFAULT_MEAN
from torch import Tensor
from torchvision.transforms import ColorJitter, InterpolationMode, v2

from shvit_pl.data.config import THREE_AUGMENT, DataConfig, Resize

_BICUBIC = InterpolationMode.BICUBIC


def eval_transform(size: int, crop_pct: float, resize: Resize = "crop") -> v2.Compose:
    """Build the official evaluation: uint8 `(3, H, W)` to `(3, size, size)`.

    `crop` resizes the shorter side to `size / crop_pct` and crops the center; `squash` resizes both sides to `size`,
    without a crop (the official fine-tuning).
    """
    if resize == "squash":
        return v2.Compose([v2.Resize((size, size), interpolation=_BICUBIC), torch.Tensor.contiguous])
    return v2.Compose(
        [v2.Resize(int(size / crop_pct), interpolation=_BICUBIC), v2.CenterCrop(size), torch.Tensor.contiguous]
    )


def train_transform(config: DataConfig) -> v2.Compose:
    """Build the augmentation that the data allows: uint8 `(3, H, W)` to `(3, image_size, image_size)`.

    It draws from the global generators of torch, `random` and numpy.
    """
    steps: list[Any] = [eval_transform(config.side, config.crop_pct)]
    if config.augment == "crop":
        steps = [RandomResizedCrop(config.side), v2.RandomHorizontalFlip()]
    elif config.augment == "shift":  # no flip: a flipped 2 is no 2
        steps.append(v2.RandomAffine(degrees=0, translate=(1 / 8, 1 / 8)))
    policy, jitter = config.auto_augment, config.color_jitter
    colors: list[Any] = []
    if policy is not None:
        options = {  # those of timm's `transforms_imagenet_train`, for RGB images
            "translate_const": int(config.side * 0.45),
            "img_mean": tuple(round(255 * channel) for channel in IMAGENET_DEFAULT_MEAN),
            "interpolation": Image.Resampling.BICUBIC,
        }
        three = policy == THREE_AUGMENT
        colors.append(
            auto_augment_transform(policy, options) if three else repair(rand_augment_transform(policy, options))
        )
    if jitter and policy in (None, THREE_AUGMENT):  # as in timm, there is none with RandAugment
        colors.append(ColorJitter(jitter, jitter, jitter))
    return v2.Compose(
        [*steps, *([v2.ToPILImage(), *colors, v2.PILToTensor()] if colors else []), torch.Tensor.contiguous]
    )


def repair(augment: RandAugment) -> RandAugment:
    """Let timm's RandAugment keep no bits at full magnitude, which newer versions of Pillow refuse with an error."""
    for operation in augment.ops:
        if operation.name.startswith("Posterize"):
            operation.aug_fn = _posterize
    return augment


def _posterize(image: Image.Image, bits: int, **_: Any) -> Image.Image:
    """Keep the upper bits; none of them is black, as in the versions of Pillow that allowed it."""
    if bits <= 0:
        return Image.new(image.mode, image.size)
    return ImageOps.posterize(image, min(bits, 8))


class RandomResizedCrop(v2.RandomResizedCrop):
    """Torchvision's, with the pixels' channels kept together in memory: its kernel and PIL want them so."""

    def transform(self, inpt: Tensor, params: dict[str, Any]) -> Tensor:
        """Crop and resize `(3, H, W)`."""
        return resized(v2.functional.crop_image(inpt, **params), self.size)


def resized(image: Tensor, size: list[int]) -> Tensor:
    """Resize uint8 `(3, H, W)` to `size`, bicubic, with antialiasing."""
    channels_last = image[None].contiguous(memory_format=torch.channels_last)
    return v2.functional.resize_image(channels_last, size, _BICUBIC, antialias=True)[0]
