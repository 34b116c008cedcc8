"""Fixed augmented views of the training images, the same for every batch size, number of processes and run's seed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from timm.data import Mixup

from shvit_pl.data.mixing import NOT_MIXED, Mix, draw_mix
from shvit_pl.data.samplers import TrainSampler

Columns = dict[str, NDArray[Any]]
_SEED = 0


def slots_of_view(rows: int, repeats: int) -> int:
    """Images that a view of so many rows holds."""
    return len(_sampler(rows, repeats)) // 2 * 2


def place_of(slot: Any, slots: int) -> tuple[Any, Any]:
    """The view of a slot, counted through all views of so many slots, and the draw in it; of many in an array, too."""
    view, within = divmod(slot, slots)
    pair, half = divmod(within, 2)
    return view, pair + half * (slots // 2)


class Views:
    """Views of a dataset's rows, each of which is an epoch that one process draws with the seed 0.

    The images of a view stand in slots, two and two mixed with each other: of n draws (an odd last one is left out),
    the draws p and p + n/2 are in the slots 2p and 2p + 1, so that copies of an image do not meet. Slots are counted
    through all views.

    Args:
        rows: Number of rows.
        repeats: Augmented copies of an image in a view.
        size: Side of the images in pixels.
        mixup: For two classes, without label smoothing; None mixes nothing.
        views: Number of views.

    Attributes:
        slots: Slots of a view.
        views: Number of views.
    """

    def __init__(self, rows: int, repeats: int, size: int, mixup: Mixup | None, views: int) -> None:
        self._sampler = _sampler(rows, repeats)
        self.slots = slots_of_view(rows, repeats)
        self.views = views
        self._size = size
        self._mixup = mixup
        self._drawn: tuple[int, NDArray[np.int32]] | None = None

    def read(self, slots: Sequence[int]) -> Columns:
        """Draw `row` and `key` of the images in n slots, and by what they are mixed: `lam` `(n,)`, `box` `(n, 4)`."""
        view, draw = place_of(np.asarray(slots), self.slots)
        half, pair = divmod(draw, self.slots // 2)
        mixes = self._mixes(view.tolist(), pair.tolist(), half.tolist())
        return {
            "row": np.array([self._rows(v)[d] for v, d in zip(view.tolist(), draw.tolist(), strict=True)], np.int32),
            "key": np.column_stack([np.full_like(draw, _SEED), view, draw]).astype(np.int32),
            "lam": np.array([lam for lam, _ in mixes], np.float32),
            "box": np.array([box for _, box in mixes], np.int16),
        }

    def _rows(self, view: int) -> NDArray[np.int32]:
        """Rows that a view draws, one after the other; of one view at a time, to spare memory."""
        if self._drawn is None or self._drawn[0] != view:
            self._sampler.set_epoch(view)
            self._drawn = int(view), np.fromiter((draw.row for draw in self._sampler), np.int32)
        return self._drawn[1]

    def _mixes(self, view: list[int], pair: list[int], half: list[int]) -> list[Mix]:
        mixup = self._mixup
        if mixup is None:
            return [NOT_MIXED] * len(view)
        keys = [(_SEED, v, p, p + self.slots // 2) for v, p in zip(view, pair, strict=True)]  # of both images
        drawn = {key: draw_mix(mixup, self._size, key) for key in dict.fromkeys(keys)}
        return [drawn[key][h] for key, h in zip(keys, half, strict=True)]


def _sampler(rows: int, repeats: int) -> TrainSampler:
    return TrainSampler(range(rows), _SEED, repeats, shares=(1, 0))
