"""RandAugment and 3-Augment, built as timm's `transforms_imagenet_train` builds them for the official recipe."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from PIL import Image, ImageOps
from timm.data.auto_augment import RandAugment, auto_augment_transform, rand_augment_transform
from timm.data.constants import IMAGENET_DEFAULT_MEAN

from shvit_pl.errors import UserError

OnPIL = Callable[[Image.Image], Image.Image]

_FLOAT = r"\d+(\.\d+)?"
_RAND = re.compile(rf"rand(-(m(\d|10)|n[1-9]|p(0(\.\d+)?|1)|mstd{_FLOAT}|mmax\d+|inc[01]|t(weights|3a|3aw)))*")
THREE_AUGMENT = "3a"


def build(config: str, size: int) -> OnPIL:
    """Build the augmentation of timm's name, on RGB images; it draws from `random` and from numpy's global generator.

    Args:
        config: `rand-m9-mstd0.5-inc1` (the paper's RandAugment), another `rand-...`, or `3a` (3-Augment of DeiT III).
        size: Side of the images in pixels.

    Raises:
        UserError: for any other text; timm would ignore the parts that it doesn't know.
    """
    options: dict[str, Any] = {
        "translate_const": int(size * 0.45),
        "img_mean": tuple(round(255 * channel) for channel in IMAGENET_DEFAULT_MEAN),
        "interpolation": Image.Resampling.BICUBIC,
    }
    if config == THREE_AUGMENT:
        return auto_augment_transform(config, options)
    if not _RAND.fullmatch(config):
        raise UserError(
            f"data.auto_augment {config!r}: allowed are timm's 'rand-...', such as 'rand-m9-mstd0.5-inc1', and '3a'."
        )
    return repair(rand_augment_transform(config, options))


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
