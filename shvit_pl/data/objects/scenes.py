"""The embedded default: scenes of real handwritten digits, with boxes and masks, drawn by a key."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from datasets import Image
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

from shvit_pl.data.config import DataConfig
from shvit_pl.data.decoding import decode
from shvit_pl.data.opening import open_source

SIDE = 128  # pixels of a scene
HELD_OUT = 5  # every fifth digit is in the scenes of a validation alone
EVALUATED_SCENES = 200  # of a validation, and as many others of a test
_MOST = 4  # digits of a scene
_SIDES = 20, 56  # pixels of a digit
_CONTRAST = 80  # least difference in gray levels between a digit and the background
_NOISE = 12  # standard deviation of the background, in gray levels
_INK = 0.4  # least share of ink in the pixels of a mask
_OVERLAP = 0.1  # most of a digit's box that another one may cover


class Scenes:
    """Scenes of digits that a training sees, or of those that are held out from it."""

    def __init__(self, held_out: bool) -> None:
        rows = open_source(DataConfig()).splits["train"].cast_column("image", Image(decode=False))
        rows = rows.select([row for row in range(len(rows)) if (row % HELD_OUT == 0) == held_out])
        self.labels = np.asarray(rows["label"][:])
        digits = [decode(image, "digits")[0] for image in rows["image"][:]]  # (8, 8), white on black
        self.ink = torch.stack(digits).float()[:, None] / 255  # (N, 1, 8, 8)

    def draw(self, key: tuple[int, ...]) -> tuple[Tensor, dict[str, Any]]:
        """Return a scene, uint8 `(3, 128, 128)`, and its objects: boxes, labels, area, masks `(N, 128, 128)`."""
        random = np.random.default_rng(key)
        gray = random.uniform(0, 255)
        canvas = gray + random.normal(0, _NOISE, (SIDE, SIDE))
        masks, labels = list[NDArray[np.bool_]](), list[int]()
        for row, top, left, ink in self._placed(random):
            drawn = random.uniform(0, 255, 100)
            level = drawn[abs(drawn - gray) >= _CONTRAST][0]
            share = np.zeros((SIDE, SIDE))
            share[top : top + len(ink), left : left + len(ink)] = ink
            canvas = canvas * (1 - share) + level * share
            visible = share > _INK
            masks = [mask & ~visible for mask in masks]
            masks.append(visible)
            labels.append(int(self.labels[row]))
        boxes = [_extent(mask) for mask in masks]
        pixels = torch.from_numpy(canvas.round().clip(0, 255).astype(np.uint8))
        return pixels.expand(3, -1, -1).contiguous(), {
            "boxes": torch.tensor(boxes, dtype=torch.float32),
            "labels": torch.tensor(labels),
            "area": np.array([float(mask.sum()) for mask in masks]),
            "iscrowd": torch.zeros(len(labels), dtype=torch.bool),
            "masks": torch.from_numpy(np.stack(masks).astype(np.uint8)),
        }

    def _placed(self, random: np.random.Generator) -> Iterator[tuple[int, int, int, NDArray[Any]]]:
        """Yield digits that hardly overlap: the row, the place of the upper left corner, and the ink `(side, side)`."""
        taken: list[tuple[int, int, int]] = []
        for _ in range(random.integers(1, _MOST + 1)):
            row, side = int(random.integers(len(self.labels))), int(random.integers(*_SIDES, endpoint=True))
            places = random.integers(0, SIDE - side, (20, 2), endpoint=True)
            free = (
                (int(top), int(left))
                for top, left in places
                if all(_shared((top, left, side), other) <= _OVERLAP for other in taken)
            )
            place = next(free, None)
            if place is None:
                continue
            taken.append((*place, side))
            digit = interpolate(self.ink[row : row + 1], (side, side), mode="bicubic", align_corners=False)
            yield row, *place, digit[0, 0].clamp(0, 1).numpy()


def _shared(one: tuple[int, int, int], other: tuple[int, int, int]) -> float:
    """Return the share of the smaller of two squares (top, left, side) that lies in the other."""
    overlaps = [max(0, min(one[i] + one[2], other[i] + other[2]) - max(one[i], other[i])) for i in (0, 1)]
    return float(overlaps[0] * overlaps[1] / min(one[2], other[2]) ** 2)


def _extent(mask: NDArray[np.bool_]) -> list[int]:
    """Return the box (x1, y1, x2, y2) of a mask, its last pixels included."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return [int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1]
