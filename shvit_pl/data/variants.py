"""Several versions of each evaluated image: corrupted ones, five crops, or the image as it is."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torchvision.transforms import v2

from shvit_pl.data.corruptions import STRENGTHS, corrupt
from shvit_pl.data.decoding import IGNORED, Item
from shvit_pl.data.loaders import ImageDataset
from shvit_pl.data.transforms import eval_transform

_LARGER = 0.875  # the share of the side that a crop has, where the evaluation crops nothing


@dataclass(frozen=True)
class Unchanged:
    """The image as it is evaluated."""

    versions, parts = 1, 1

    def __call__(self, image: Tensor, row: int, part: int) -> Tensor:
        """Return uint8 `(1, 3, S, S)`."""
        return image[None]


@dataclass(frozen=True)
class Corrupted:
    """The image under a corruption, at all strengths; a part is one of the names.

    Random numbers depend on the image's row alone, so all networks see the same images.
    """

    names: tuple[str, ...]
    versions = len(STRENGTHS)

    @property
    def parts(self) -> int:
        """Corruptions."""
        return len(self.names)

    def __call__(self, image: Tensor, row: int, part: int) -> Tensor:
        """Return uint8 `(5, 3, S, S)`."""
        return torch.stack([corrupt(image, self.names[part], strength, (row,)) for strength in STRENGTHS])


@dataclass(frozen=True)
class FiveCrops:
    """The corners and the center of a larger image; where the evaluation crops the center, that is one of them."""

    side: int
    crop_pct: float
    resize: Any
    versions, parts = 5, 1

    @property
    def transform(self) -> Callable[[Tensor], Tensor]:
        """The transformation to the larger image."""
        share = _LARGER if self.resize == "squash" or self.crop_pct == 1 else self.crop_pct
        return eval_transform(int(self.side / share), 1.0, self.resize)

    def __call__(self, image: Tensor, row: int, part: int) -> Tensor:
        """Return uint8 `(5, 3, S, S)`."""
        crops: tuple[Tensor, ...] = v2.functional.five_crop(image, [self.side, self.side])
        return torch.stack(crops)


Vary = Unchanged | Corrupted | FiveCrops


class Variants(torch.utils.data.Dataset[Item]):
    """All images under a way to vary them, part after part: `image` uint8 `(versions, 3, S, S)`, `label` and `part`.

    The label of an image that does not count is `IGNORED`, and `whole` tells whether it could be decoded.
    """

    def __init__(self, images: ImageDataset, vary: Vary, most: int | None = None) -> None:
        self.rows, self.vary = images.rows, vary
        self.reader = images.reader
        if isinstance(vary, FiveCrops):
            self.reader = replace(self.reader, transform=vary.transform)
        self.count = len(self.rows) if most is None else min(most, len(self.rows))

    def __len__(self) -> int:
        return self.count * self.vary.parts

    def __getitem__(self, index: int) -> Item:
        """Decode an image and vary it."""
        part, row = divmod(index, self.count)
        item = self.reader.read(self.rows[row], f"row {row}")
        whole = not item["broken"]
        size = self.reader.size
        black = torch.zeros(self.vary.versions, 3, size, size, dtype=torch.uint8)
        return {
            "image": self.vary(item["image"], row, part) if whole else black,
            "label": item.get("label", IGNORED) if whole else IGNORED,
            "whole": whole,
            "part": part,
        }
