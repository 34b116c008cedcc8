"""Transformation of images: augmented in the workers or on the device, where a batch is normalized, erased and mixed.

With `augment_on` device, a worker decodes, draws all parameters by the image's key in the same order as the
augmentation in the workers does, and cuts the crop out; the device resizes, flips and changes colors. So an image is
the same as from the workers alone, up to rounding (of the color jitter, and of a GPU's resizing), whatever its batch.

A plan is the numbers `(7,)`: whether to flip (1 or 0), the factors of brightness, contrast and saturation, and the
order in which these three (0, 1, 2) are changed.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from timm.data import IMAGENET_DEFAULT_MEAN, Mixup, RandAugment, auto_augment_transform, rand_augment_transform
from timm.data.mixup import cutmix_bbox_and_lam, mixup_target
from timm.data.random_erasing import RandomErasing
from torch import Tensor
from torchvision.transforms import ColorJitter, InterpolationMode, v2

from shvit_pl.compat import draw_lambdas
from shvit_pl.data.config import THREE_AUGMENT, DataConfig, Resize
from shvit_pl.randomness import seed_all, seed_cpu, seeded

_BICUBIC = InterpolationMode.BICUBIC
_UNCHANGED = torch.tensor([0.0, 1.0, 1.0, 1.0, 0.0, 1.0, 2.0])
_LARGEST_CROP = 4  # times the result's pixels: a larger one is resized by the worker, as sending it would cost more

Batch = dict[str, Any]
Triple = tuple[float, ...]  # one number per channel
Mix = tuple[float, tuple[int, ...]]  # lambda and rectangle
NOT_MIXED: Mix = 1.0, (0, 0, 0, 0)


def finish_batch(
    batch: Batch,
    config: DataConfig,
    mean: Triple,
    std: Triple,
    mixup: Mixup | None = None,
    step: tuple[int, ...] = (),
    precision: Callable[[], AbstractContextManager[Any]] = nullcontext,
) -> Batch:
    """Return a batch on the device as the step sees it: `image` and, of a training batch, `target`.

    Images `(B, 3, S, S)` are float32; `target` is `(B, classes)` if mixed, else the labels `(B,)`. All randomness comes
    from keys: erasing from those of the images, mixing from `step`. timm makes mixed targets in the step's precision.
    """
    images = normalize(augmented(batch, config.side) if "plan" in batch else batch["image"], mean, std)
    if "key" not in batch:  # not for training
        return {**batch, "image": images}
    labels, mix = batch["label"], batch.get("mix")
    if config.erasing:
        by_key: Any = erase if mix is None else erase_each
        images = by_key(images, config.erasing, batch["key"])
    targets = labels
    if mix is not None:  # a kept view, whose mixing is drawn before
        images = mix_images(images, mix)
        targets = labels if mixup is None else mix_targets(labels, mix, mixup)
    elif mixup is not None:
        with seeded(*step), precision():
            images, targets = mixup(images, labels)
    return {**batch, "image": images, "target": targets}


def normalize(images: Tensor, mean: Triple, std: Triple) -> Tensor:
    """Return normalized float32 of uint8 `(B, 3, H, W)`, on the same device."""
    pixels = v2.functional.to_dtype(images, torch.float32, scale=True)
    return v2.functional.normalize(pixels, _tensor(images.device, mean), _tensor(images.device, std), inplace=True)


def denormalize(images: Tensor, mean: Triple, std: Triple) -> Tensor:
    """Return the inverse of `normalize`, as float32 in [0, 1]."""
    shape = (1, -1, 1, 1)
    return (images * images.new_tensor(std).view(shape) + images.new_tensor(mean).view(shape)).clamp(0, 1)


def viewable(images: Tensor, mean: Triple, std: Triple) -> Tensor:
    """Return normalized images `(B, C, H, W)` as `(B, 1 or 3, H, W)` in [0, 1] to be looked at.

    Of many channels they are the first three (of two, the first); values of other channels than RGB, which may be of
    any range, are stretched so that all but the darkest and brightest percent are told apart.
    """
    if len(mean) == 3:
        return denormalize(images, mean, std)
    shown = images[:, : 3 if len(mean) > 3 else 1].float()
    samples = shown.transpose(0, 1).flatten(1)
    samples = samples[:, :: max(1, samples.shape[1] // 1_000_000)]  # quantile takes 16 million at most
    low, high = (samples.quantile(share, dim=1).view(1, -1, 1, 1) for share in (0.01, 0.99))
    return ((shown - low) / (high - low).clamp(min=1e-6)).clamp(0, 1)


@lru_cache(maxsize=16)
def _tensor(device: torch.device, values: Triple) -> Any:
    """Make the tensor once for each device, as the program waits for the copy."""
    with torch.inference_mode(False):
        return torch.tensor(values, device=device)


# ---- erasing


def erase(images: Tensor, probability: float, key: int) -> Tensor:
    """Replace a random rectangle by noise in some of the normalized images `(B, 3, S, S)`, in place, by timm.

    `key` seeds all generators; the training step then seeds anew.
    """
    seed_all(key)
    return RandomErasing(probability, mode="pixel", device=images.device)(images)


def erase_each(images: Tensor, probability: float, keys: Sequence[int]) -> Tensor:
    """Erase as `erase` does, but every image by a key of its own, and with the same noise on every device."""
    eraser = RandomErasing(probability, mode="pixel", device="cpu")
    written: list[tuple[Tensor, Any, Tensor]] = []  # image, place in it, and noise
    with seeded():  # the states from before are restored
        for image, key in zip(images, keys, strict=True):
            seed_cpu(key)
            eraser(_Recorder(image, written))
    if not written:
        return images
    noise = to_device(torch.cat([pixels.flatten() for _, _, pixels in written]), images.device)  # one copy for all
    parts = torch.split(noise, [pixels.numel() for _, _, pixels in written])
    for (image, place, pixels), part in zip(written, parts, strict=True):
        image[place] = part.view(pixels.shape)
    return images


class _Recorder:
    """Stand-in for an image before timm's eraser, which keeps what would be written into it."""

    def __init__(self, image: Tensor, written: list[tuple[Tensor, Any, Tensor]]) -> None:
        self.size, self.dtype = image.size, image.dtype
        self._image, self._written = image, written

    def __setitem__(self, place: Any, pixels: Tensor) -> None:
        self._written.append((self._image, place, pixels))


# ---- mixing of pairs of images, by parameters that have been drawn before

# The parameters of an image are five int32 numbers: the bits of its own share lambda (as integers, no reduced precision
# rounds them on their way to the device), and top, bottom, left and right of the rectangle that is its partner's. Where
# the rectangle is empty, all pixels are blended by lambda.


def draw_mix(mixup: Mixup, size: int, key: tuple[int, ...]) -> list[Mix]:
    """Return lambda and rectangle of both images of a pair, as timm's Mixup draws them when seeded by `key`."""
    with seeded(*key):
        lam, box = _draw(mixup, 2 if mixup.mode == "elem" else 1, (size, size))
    mixes = [(float(share), tuple(sides.tolist())) for share, sides in zip(lam, box, strict=True)]
    return [mixes[0], mixes[-1]]  # the same for both, except in mode elem


def _draw(mixup: Mixup, count: int, shape: Sequence[int]) -> tuple[NDArray[np.floating], NDArray[np.int16]]:
    """Draw lambda `(count,)` and rectangles `(count, 4)` in timm's order, for images of the shape `(..., H, W)`."""
    lam, by_cutmix = map(np.atleast_1d, draw_lambdas(mixup, count))
    box = np.zeros((count, 4), np.int16)
    for index in np.flatnonzero(by_cutmix & (lam != 1)):
        box[index], lam[index] = cutmix_bbox_and_lam(shape, lam[index], correct_lam=mixup.correct_lam)
    return lam, box


def encode_mix(lam: NDArray[np.floating], box: NDArray[np.int16]) -> NDArray[np.int32]:
    """Return parameters `(B, 5)` of lambda `(B,)` and rectangles `(B, 4)`."""
    return np.column_stack([lam.astype(np.float32).view(np.int32), box.astype(np.int32)])


def decode_mix(mix: NDArray[np.int32]) -> tuple[NDArray[np.float32], NDArray[np.int16]]:
    """Return lambda and rectangles of what `encode_mix` gave."""
    return np.ascontiguousarray(mix[:, 0]).view(np.float32), mix[:, 1:].astype(np.int16)


def mix_images(images: Tensor, mix: Tensor) -> Tensor:
    """Return the images 0 and 1, 2 and 3, and so on, of `(B, 3, S, S)` mixed by parameters `(B, 5)`.

    Outside and inside of a rectangle they are exact copies.
    """
    return images.lerp(_neighbors(images), _share_of_partner(images, mix))


def mix_targets(labels: Tensor, mix: Tensor, mixup: Mixup) -> Tensor:
    """Return the targets `(B, classes)` of labels `(B,)` mixed by `mix_images`, as timm's `mixup_target` gives them."""
    classes, smoothing = mixup.num_classes, mixup.label_smoothing
    targets = torch.nn.functional.one_hot(labels, classes).float() * (1 - smoothing) + smoothing / classes
    return _neighbors(targets).lerp(targets, _lambda(mix)[:, None])


def _neighbors(values: Tensor) -> Tensor:
    """Return `(B, ...)` with 0 and 1, 2 and 3, and so on swapped."""
    return values.view(-1, 2, *values.shape[1:]).flip(1).view_as(values)


def _share_of_partner(images: Tensor, mix: Tensor) -> Tensor:
    """Return how much of each pixel is the partner's, `(B, 1, S, S)`."""
    lam, (top, bottom, left, right) = _lambda(mix)[:, None, None], mix[:, 1:, None, None].unbind(1)
    y = torch.arange(images.shape[-2], device=images.device)[:, None]
    x = torch.arange(images.shape[-1], device=images.device)
    inside = (y >= top) & (y < bottom) & (x >= left) & (x < right)
    return torch.where(bottom > top, inside.float(), 1 - lam)[:, None]


def _lambda(mix: Tensor) -> Tensor:
    return mix[:, 0].view(torch.float32)


class MixupOfEach(Mixup):
    """timm's Mixup in the modes pair and elem: the same draws, but the batch is mixed as a whole.

    timm goes through the images one by one, and waits for the device.
    """

    def __call__(self, x: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Mix each image `(B, 3, S, S)` with its mirror in the batch, in place, and the labels to `(B, classes)`."""
        pairs = self.mode == "pair"
        lam, box = _draw(self, len(x) // 2 if pairs else len(x), x.shape)
        if pairs:
            lam, box = np.concatenate([lam, lam[::-1]]), np.concatenate([box, box[::-1]])
        mix = to_device(encode_mix(lam, box), x.device)
        x.lerp_(x.flip(0), _share_of_partner(x, mix).to(x.dtype))
        shares = _lambda(mix)[:, None].to(x.dtype)
        return x, mixup_target(target, self.num_classes, shares, self.label_smoothing)


def to_device(values: Tensor | NDArray[Any], device: torch.device) -> Tensor:
    """Copy from the CPU; to a GPU from pinned memory, as from ordinary memory the program would wait."""
    tensor = torch.as_tensor(values)
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


# ---- augmentation on the device


class PlannedCrop:
    """The worker's part: uint8 `(3, H, W)` to a crop `(3, h, w)` and its plan; `size` is the final side in pixels."""

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
        **torch.utils.data.default_collate(others),
        "image": torch.cat([crop.flatten() for crop in crops]),
        "sides": [(crop.shape[1], crop.shape[2]) for crop in crops],
        "plan": torch.stack([item.get("plan", _UNCHANGED) for item in items]),  # broken images have none
    }


def augmented(batch: Batch, size: int) -> Tensor:
    """Return the images of such a batch, uint8 `(B, 3, size, size)`, on its device.

    Brightness, contrast and saturation change as PIL does it, each to whole numbers.
    """
    crops = torch.split(batch["image"], [3 * height * width for height, width in batch["sides"]])
    images = [resized(crop.view(3, *sides), [size, size]) for crop, sides in zip(crops, batch["sides"], strict=True)]
    plan = batch["plan"].view(-1, 7, 1, 1, 1)  # plan[:, i] is (B, 1, 1, 1), as one number per image
    pixels = torch.stack(images)
    pixels = torch.where(plan[:, 0] > 0, pixels.flip(-1), pixels).float()
    kinds = torch.arange(3, device=plan.device).view(3, 1, 1, 1)
    for kind in plan[:, 4:].unbind(1):  # (B, 1, 1, 1)
        factor = (plan[:, 1:4] * (kind[:, None] == kinds)).sum(1)  # (B, 1, 1, 1): that of each image's kind
        gray = v2.functional.rgb_to_grayscale(pixels).round()
        mean = gray.mean((1, 2, 3), keepdim=True).round()
        unsaturated = mean * (kind == 1) + gray * (kind == 2)  # brightness: black
        pixels = torch.lerp(unsaturated.expand_as(pixels), pixels, factor).clamp(0, 255).floor()
    return pixels.byte()


# ---- augmentation in the workers, on uint8


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
    """Torchvision's, with the pixels' channels kept together in memory, as its kernel and PIL need them."""

    def transform(self, inpt: Tensor, params: dict[str, Any]) -> Tensor:
        """Crop and resize `(3, H, W)`."""
        return resized(v2.functional.crop_image(inpt, **params), self.size)


def resized(image: Tensor, size: list[int]) -> Tensor:
    """Resize uint8 `(3, H, W)` to `size`, bicubic, with antialiasing."""
    channels_last = image[None].contiguous(memory_format=torch.channels_last)
    return v2.functional.resize_image(channels_last, size, _BICUBIC, antialias=True)[0]
