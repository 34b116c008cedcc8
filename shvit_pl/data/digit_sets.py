"""Embedded images with any number of labels: none to three of the real handwritten digits in each."""

from collections.abc import Sequence
from io import BytesIO
from typing import Any

import numpy as np
from datasets import ClassLabel, Dataset, Features, Image, List
from numpy.typing import NDArray
from PIL import Image as PILImage

_IMAGES = {"train": 1600, "validation": 400}
_HELD_OUT = 5  # every fifth digit is in the validation images alone
_SIDE, _CELL = 32, 16  # pixels of an image, and of one of its four quarters
_SIDES = 12, 16  # pixels of a digit
_NUMBERS = (0.05, 0.3, 0.35, 0.3)  # share of the images with none, one, two, three digits
_NOISE = 16  # standard deviation of the background, in gray levels


def digit_sets(digits: Dataset) -> dict[str, Dataset]:
    """Return the splits `train` and `validation`, the same in every call; no digit is in both.

    Args:
        digits: The embedded digits, `image` (encoded) and `label`.
    """
    digits = digits.cast_column("image", Image(decode=False))
    names = digits.features["label"].names
    labels = np.asarray(digits["label"][:])
    pictures = [PILImage.open(BytesIO(image["bytes"])).convert("L") for image in digits["image"][:]]
    held_out = np.arange(len(labels)) % _HELD_OUT == 0
    features = Features(image=Image(decode=False), labels=List(ClassLabel(names=names)))
    splits = {}
    for seed, (split, count) in enumerate(_IMAGES.items()):
        random = np.random.default_rng(seed)
        own = np.flatnonzero(held_out == (split == "validation"))
        rows = [_draw(random, pictures, labels, own) for _ in range(count)]
        splits[split] = Dataset.from_list(rows, features=features)
    return splits


def _draw(
    random: np.random.Generator, pictures: Sequence[PILImage.Image], labels: NDArray[np.int64], own: NDArray[np.int64]
) -> dict[str, Any]:
    """Draw an image: digits in different quarters, bright on noise."""
    canvas = np.abs(random.normal(0, _NOISE, (_SIDE, _SIDE)))
    chosen = random.choice(own, random.choice(len(_NUMBERS), p=_NUMBERS), replace=False)
    for quarter, row in zip(random.permutation(4), chosen, strict=False):
        side = int(random.integers(*_SIDES, endpoint=True))
        top, left = (
            _CELL * place + int(random.integers(0, _CELL - side, endpoint=True)) for place in divmod(quarter, 2)
        )
        ink = np.asarray(pictures[row].resize((side, side), PILImage.Resampling.BICUBIC), dtype=float)
        canvas[top : top + side, left : left + side] += ink * random.uniform(0.5, 1.0)
    buffer = BytesIO()
    PILImage.fromarray(canvas.clip(0, 255).astype(np.uint8)).save(buffer, "PNG")
    return {"image": {"bytes": buffer.getvalue(), "path": None}, "labels": sorted({int(labels[row]) for row in chosen})}
