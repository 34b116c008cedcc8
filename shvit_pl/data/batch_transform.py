"""What is done to a batch on the device: augmented where that is asked for, normalized, erased and mixed.

With `augment_on` device, a worker decodes, draws all parameters by the image's key in the same order as the
augmentation in the workers does, and cuts the crop out; the device resizes, flips and changes colors. So an image is
the same as from the workers alone, up to rounding (of the color jitter, and of a GPU's resizing), whatever its batch.

A plan is the numbers `(7,)`: whether to flip (1 or 0), the factors of brightness, contrast and saturation, and the
order in which these three (0, 1, 2) are changed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from timm.data import Mixup
from timm.data.random_erasing import RandomErasing
from torch import Tensor
from torch.utils.data import default_collate
from torchvision.transforms import ColorJitter, v2

from shvit_pl.data.config import DataConfig
from shvit_pl.data.loaders import Batch
from shvit_pl.data.mixing import mix_images, mix_targets, to_device
from shvit_pl.data.transforms import RandomResizedCrop, resized
from shvit_pl.randomness import seed_all, seed_cpu, seeded

_UNCHANGED = torch.tensor([0.0, 1.0, 1.0, 1.0, 0.0, 1.0, 2.0])
_LARGEST_CROP = 4  # times the result's pixels: a larger one is resized by the worker, as sending it would cost more

Triple = tuple[float, ...]  # one number per channel


@dataclass(frozen=True)
class BatchTransform:
    """From a batch on the device to what the step sees: `image` and, of a training batch, `target`.

    All randomness comes from keys: erasing from those of the batch's images, mixing from the step's.
    """

    config: DataConfig
    """Side of the images, and probability of erasing."""
    mean: Triple
    """Mean of the normalization, per channel."""
    std: Triple
    """Standard deviation of the normalization, per channel."""
    mixup: Mixup | None = None
    """Mixup and CutMix of training batches."""
    precision: Callable[[], AbstractContextManager[Any]] = nullcontext
    """The step's precision, in which timm makes the mixed targets."""

    def __call__(self, batch: Batch, step: tuple[int, ...] = ()) -> Batch:
        """Transform a batch; `step` is the key of its mixing."""
        pixels = augmented(batch, self.config.side) if "plan" in batch else batch["image"]
        images = normalize(pixels, self.mean, self.std)
        if "key" not in batch:  # not for training
            return {**batch, "image": images}
        images, targets = self._mixed(self._erased(images, batch), batch, step)
        return {**batch, "image": images, "target": targets}

    def _erased(self, images: Tensor, batch: Batch) -> Tensor:
        if not self.config.erasing:
            return images
        by_key: Any = erase_each if "mix" in batch else erase
        return by_key(images, self.config.erasing, batch["key"])

    def _mixed(self, images: Tensor, batch: Batch, step: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """Return images `(B, 3, S, S)`, and targets: `(B, classes)` if mixed, else the labels `(B,)`."""
        labels, mix, mixup = batch["label"], batch.get("mix"), self.mixup
        if mix is not None:  # drawn before
            images = mix_images(images, mix)
            return images, labels if mixup is None else mix_targets(labels, mix, mixup)
        if mixup is None:
            return images, labels
        with seeded(*step), self.precision():
            return mixup(images, labels)


def normalize(images: Tensor, mean: Triple, std: Triple) -> Tensor:
    """Return normalized float32 of uint8 `(B, 3, H, W)`, on the same device."""
    pixels = v2.functional.to_dtype(images, torch.float32, scale=True)
    return v2.functional.normalize(pixels, _on(images.device, mean), _on(images.device, std), inplace=True)


def denormalize(images: Tensor, mean: Triple, std: Triple) -> Tensor:
    """Return the inverse of `normalize`, as float32 in [0, 1]."""
    shape = (1, -1, 1, 1)
    return (images * images.new_tensor(std).view(shape) + images.new_tensor(mean).view(shape)).clamp(0, 1)


@lru_cache(maxsize=16)
def _on(device: torch.device, values: Triple) -> Any:
    """Make the tensor once for each device, as the program waits for the copy."""
    with torch.inference_mode(False):
        return torch.tensor(values, device=device)


# ---- erasing


def erase(images: Tensor, probability: float, key: int) -> Tensor:
    """Replace a random rectangle by noise in some images, in place, by timm (mode pixel, one rectangle).

    Args:
        images: Normalized images `(B, 3, S, S)`.
        probability: Of an image to lose a rectangle.
        key: Seed; the training step then seeds anew.
    """
    seed_all(key)
    return RandomErasing(probability, mode="pixel", device=images.device)(images)


def erase_each(images: Tensor, probability: float, keys: Sequence[int]) -> Tensor:
    """Erase as `erase` does, but every image by a key of its own, and with the same noise on every device.

    Args:
        images: Normalized images `(B, 3, S, S)`, changed in place.
        probability: Of an image to lose a rectangle.
        keys: Seed of each image.
    """
    eraser = RandomErasing(probability, mode="pixel", device="cpu")
    recorders = [_Recorder(image) for image in images]
    with seeded():  # the states from before are restored
        for recorder, key in zip(recorders, keys, strict=True):
            seed_cpu(key)
            eraser(recorder)
    noise = [pixels.flatten() for recorder in recorders for _, pixels in recorder.written]
    if not noise:
        return images
    sizes = [len(pixels) for pixels in noise]
    parts = iter(torch.split(to_device(torch.cat(noise), images.device), sizes))  # one copy for all
    for image, recorder in zip(images, recorders, strict=True):
        for place, pixels in recorder.written:
            image[place] = next(parts).view(pixels.shape)
    return images


class _Recorder:
    """Stands in for an image before timm's eraser, and keeps what it would write."""

    def __init__(self, image: Tensor) -> None:
        self.size, self.dtype = image.size, image.dtype
        self.written: list[tuple[Any, Tensor]] = []

    def __setitem__(self, place: Any, pixels: Tensor) -> None:
        self.written.append((place, pixels))


# ---- augmentation on the device


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
            jitter = self._jitter
            order, *factors, _ = ColorJitter.get_params(jitter.brightness, jitter.contrast, jitter.saturation, None)
            plan[1:4] = torch.tensor(factors)
            plan[4:] = order[order < 3]
        if box["height"] * box["width"] > _LARGEST_CROP * self._crop.size[0] ** 2:
            return self._crop.transform(image, box), plan
        return v2.functional.crop_image(image, **box).contiguous(), plan


def collate_planned(items: list[dict[str, Any]]) -> Batch:
    """Return a batch: all crops' bytes in one row (`image`), heights and widths (`sides`), and `plan` `(B, 7)`."""
    crops = [item["image"] for item in items]
    others = [{key: value for key, value in item.items() if key not in ("image", "plan")} for item in items]
    return {
        **default_collate(others),
        "image": torch.cat([crop.flatten() for crop in crops]),
        "sides": [(crop.shape[1], crop.shape[2]) for crop in crops],
        "plan": torch.stack([item.get("plan", _UNCHANGED) for item in items]),  # broken images have none
    }


def augmented(batch: Batch, size: int) -> Tensor:
    """Return the images of such a batch, uint8 `(B, 3, size, size)`, on its device."""
    crops = torch.split(batch["image"], [3 * height * width for height, width in batch["sides"]])
    images = [resized(crop.view(3, *sides), [size, size]) for crop, sides in zip(crops, batch["sides"], strict=True)]
    plan = batch["plan"].view(-1, 7, 1, 1, 1)
    pixels = torch.stack(images)
    return _jittered(torch.where(plan[:, 0] > 0, pixels.flip(-1), pixels), plan)


def _jittered(images: Tensor, plan: Tensor) -> Tensor:
    """Change brightness, contrast and saturation of uint8 `(B, 3, S, S)` by plans `(B, 7, 1, 1, 1)`, each its own.

    As PIL does it, each change ends in whole numbers.
    """
    pixels = images.float()
    kinds = torch.arange(3, device=plan.device).view(3, 1, 1, 1)
    for kind in plan[:, 4:].unbind(1):  # (B, 1, 1, 1)
        factor = (plan[:, 1:4] * (kind[:, None] == kinds)).sum(1)
        gray = v2.functional.rgb_to_grayscale(pixels).round()
        mean = gray.mean((1, 2, 3), keepdim=True).round()
        unsaturated = mean * (kind == 1) + gray * (kind == 2)  # of brightness: black
        pixels = torch.lerp(unsaturated.expand_as(pixels), pixels, factor).clamp(0, 255).floor()
    return pixels.byte()
