"""Mean and standard deviation of each channel, measured on the images to train on and kept in the cache of datasets."""

import json
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path

import datasets
import torch
from torch import Tensor
from torchvision.transforms.v2.functional import to_dtype

from shvit_pl.data.config import DataConfig
from shvit_pl.data.fingerprint import rows_hash
from shvit_pl.data.splits import ChosenRows
from shvit_pl.data.transforms import Batch, Triple
from shvit_pl.display import new_progress
from shvit_pl.errors import UserError
from shvit_pl.files import replacing

_RULES = 1  # raise it where the same images give other numbers than before
_ROUNDING = 1e-6  # relative deviation of equal values that were resized
_PIXELS = ("channels", "image_size", "crop_pct", "resize", "exif_rotation", "intensity_range")


def normalization(config: DataConfig, chosen: ChosenRows, batches: Iterable[Batch]) -> tuple[Triple, Triple]:
    """Return mean and standard deviation of the training images, as they are evaluated (not augmented).

    `batches` hold `image` `(B, C, S, S)` and `broken`; they are not read where the same images were measured before.
    Raises `UserError` where no image can be read, or a channel has one value only.
    """
    parts = [_RULES, rows_hash(chosen), *(getattr(config, name) for name in _PIXELS)]
    digest = sha256(json.dumps(parts).encode()).hexdigest()[:32]
    file = Path(datasets.config.HF_DATASETS_CACHE) / "shvit_pl_normalization" / f"{digest}.json"
    if file.is_file():
        kept = json.loads(file.read_text())
        return tuple(kept["mean"]), tuple(kept["std"])
    mean, std = _measured(batches, len(chosen.by_stage["train"]))
    flat = [number for number, (m, s) in enumerate(zip(mean, std, strict=True), 1) if s <= _ROUNDING * abs(m)]
    if flat:
        raise UserError(
            f"data.std auto: channel {flat[0]} of {len(std)} has the same value in all training images "
            "and can't be divided by its deviation. Give --data.mean and --data.std, or leave the channel out."
        )
    file.parent.mkdir(parents=True, exist_ok=True)
    with replacing(file) as partial:
        partial.write_text(json.dumps({"mean": mean, "std": std}))
    return mean, std


def _measured(batches: Iterable[Batch], images: int) -> tuple[Triple, Triple]:
    pixels, mean, squares = 0, torch.zeros(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    reason = ""
    with new_progress() as bars:
        bar = bars.add_task("measuring mean and std", total=images)
        for batch in batches:
            for image, broken in zip(batch["image"], batch["broken"], strict=True):
                if not broken:  # images one by one, so that the numbers don't depend on the batch
                    pixels, mean, squares = _joined(pixels, mean, squares, to_dtype(image, torch.float32, scale=True))
                reason = reason or broken
            bars.advance(bar, len(batch["image"]))
    if pixels == 0:
        raise UserError(f"data.path: none of the {images} training images can be read: {reason} Repair them.")
    std = (squares / pixels).sqrt()
    return tuple(mean.tolist()), tuple(std.tolist())


def _joined(pixels: int, mean: Tensor, squares: Tensor, image: Tensor) -> tuple[int, Tensor, Tensor]:
    """Add an image's pixels to mean and squared deviations `(C,)`, as Chan et al. (1979), which cancels nothing."""
    values = image.double().flatten(1)
    own, number = values.mean(1), values.shape[1]
    apart, total = own - mean, pixels + number
    joint = mean + apart * (number / total)
    return total, joint, squares + (values - own[:, None]).square().sum(1) + apart**2 * (pixels * number / total)
