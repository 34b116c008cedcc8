"""What is done to a batch on the device: it is normalised and erased, and where that is asked for augmented.

For random resized crop, flip and colour jitter there, a worker decodes, draws all parameters by the image's key in the
same order as the augmentation in the workers does, and cuts the crop out; resizing, flipping and changing colours are
the device's. So an image is the same as from the workers alone, to a level of rounding in a GPU's resizing, whatever
batch it stands in.

A plan is the numbers `(7,)`: whether to flip (1 or 0), the factors of brightness, contrast and saturation, and the
order in which these three (0, 1, 2) are changed.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils.data import default_collate
from torchvision.transforms import ColorJitter, v2

from shvit_pl.data.erasing import erase, erase_each
from shvit_pl.data.loaders import Batch
from shvit_pl.data.transforms import RandomResizedCrop, normalise, resized

_UNCHANGED = torch.tensor([0.0, 1.0, 1.0, 1.0, 0.0, 1.0, 2.0])
_MOST = 4  # times the result's pixels: a larger crop is resized by the worker, as sending it would cost more
_GREY = (19595, 38470, 7471)  # PIL's weights of red, green and blue, in 65536ths


class PlannedCrop:
    """The worker's part: uint8 `(3, H, W)` to a crop `(3, h, w)` and its plan.

    Args:
        size: Side of the result in pixels.
        color_jitter: Strength for brightness, contrast and saturation.
    """

    def __init__(self, size: int, color_jitter: float) -> None:
        self._crop = RandomResizedCrop(size)
        self._jitter = ColorJitter(color_jitter, color_jitter, color_jitter) if color_jitter else None

    def __call__(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Draw, and cut the crop out."""
        box = self._crop.make_params([image])
        plan = _UNCHANGED.clone()
        plan[0] = torch.rand(1) < 0.5
        if self._jitter is not None:
            own = self._jitter
            order, *factors, _ = ColorJitter.get_params(own.brightness, own.contrast, own.saturation, own.hue)
            plan[1:4] = torch.tensor([1.0 if factor is None else factor for factor in factors])
            plan[4:] = order[order < 3]
        if box["height"] * box["width"] > _MOST * self._crop.size[0] ** 2:
            return self._crop.transform(image, box), plan
        return v2.functional.crop_image(image, **box).contiguous(), plan


def collate_planned(items: list[dict[str, Any]]) -> dict[str, Any]:
    """A batch: all crops' bytes in one row (`image`), their heights and widths (`sides`), and the `plan` `(B, 7)`."""
    crops = [item["image"] for item in items]
    others = [{key: value for key, value in item.items() if key not in ("image", "plan")} for item in items]
    return {
        **default_collate(others),
        "image": torch.cat([crop.flatten() for crop in crops]),
        "sides": [(crop.shape[1], crop.shape[2]) for crop in crops],
        "plan": torch.stack([item.get("plan", _UNCHANGED) for item in items]),  # broken images have none
    }


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


def augmented(batch: dict[str, Any], size: int) -> Tensor:
    """The images of such a batch, uint8 `(B, 3, size, size)`, on its device."""
    crops = torch.split(batch["image"], [3 * height * width for height, width in batch["sides"]])
    images = [resized(crop.view(3, *sides), [size, size]) for crop, sides in zip(crops, batch["sides"], strict=True)]
    plan = batch["plan"].view(-1, 7, 1, 1, 1)
    pixels = torch.stack(images)
    return jittered(torch.where(plan[:, 0] > 0, pixels.flip(-1), pixels), plan)


def jittered(images: Tensor, plan: Tensor) -> Tensor:
    """Brightness, contrast and saturation of uint8 images `(B, 3, S, S)`, to the bit as `ColorJitter` on PIL images.

    Args:
        images: On any device.
        plan: `(B, 7, 1, 1, 1)`.
    """
    pixels = images.float()
    for place in plan[:, 4:].unbind(1):
        factor = (plan[:, 1:4] * (place[:, None] == torch.arange(3, device=plan.device).view(3, 1, 1, 1))).sum(1)
        away = _away_from(pixels, place)
        pixels = (away + factor * (pixels - away)).clamp(0, 255).floor()
    return pixels.byte()


def _away_from(pixels: Tensor, place: Tensor) -> Tensor:
    """What a factor of 0 would leave: black, the mean grey, or the grey image; values of whole numbers."""
    red, green, blue = torch.split(pixels, 1, dim=1)
    grey = ((_GREY[0] * red + _GREY[1] * green + _GREY[2] * blue + 0x8000) / 65536).floor()
    count = grey[0].numel()
    total = grey.int().sum((1, 2, 3), keepdim=True)
    mean = (2 * total + count).div(2 * count, rounding_mode="floor").float()
    return mean * (place == 1) + grey * (place == 2)
