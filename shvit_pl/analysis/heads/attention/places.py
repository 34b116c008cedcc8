"""Where a layer's tokens lie in the image, also where attention stays in windows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import isqrt

import torch
from timm.layers import to_2tuple
from torch import Tensor, nn

from shvit_pl.analysis.heads.attention.layers import AttentionLayer


@dataclass(frozen=True)
class Places:
    """The grid of a layer's queries and that of its keys.

    Attributes:
        side: Queries in a row of the whole image.
        window: Queries in a row of a window; `side` where there are none.
        keys: Keys in a row of the window that a query sees.
        across: Windows in a row, those of padding too.
        shift: By how many tokens the windows are shifted down and right.
        prefix: Tokens before those of the image, such as the class token.
        alone: The windows can't be put together: the middle one stands for all.
    """

    side: int
    window: int
    keys: int
    across: int = 1
    shift: int = 0
    prefix: int = 0
    alone: bool = False

    def at(self, row: int, column: int, of: Places) -> tuple[int, int]:
        """The query at the same place as `row` and `column` in another layer's grid."""
        row, column = ((2 * each + 1) * self.side // (2 * of.side) for each in (row, column))
        return row, column

    def picture(self, maps: Tensor, images: int, row: int, column: int) -> Tensor:
        """What one query attends to.

        Args:
            maps: `(images * windows, heads, queries, keys)`, as the layer has them.
            images: Number of images.
            row: Of the query in the grid.
            column: Likewise.

        Returns:
            `(images, heads, side, side)`; nan where the query can't look.
        """
        down, right = ((each - self.shift) % self.side for each in (row, column))
        places = (down // self.window, right // self.window)
        token = down % self.window * self.window + right % self.window + self.prefix
        by_window = maps.reshape(images, -1, *maps.shape[1:])
        number = by_window.shape[1] // 2 if self.alone else places[0] * self.across + places[1]
        seen = by_window[:, number, :, token, self.prefix :].reshape(images, -1, self.keys, self.keys)
        return seen if self.alone or self.across == 1 else self._put(seen, places)

    def _put(self, seen: Tensor, places: tuple[int, int]) -> Tensor:
        """A window in its place in the image, as Swin's blocks put it: cut off what is padding, shift back."""
        top, left = (each * self.window for each in places)
        whole = seen.new_full((*seen.shape[:2], *[self.across * self.window] * 2), torch.nan)
        whole[..., top : top + self.window, left : left + self.window] = seen
        return whole[..., : self.side, : self.side].roll((self.shift, self.shift), (-2, -1))


def places_of(model: nn.Module, layer: AttentionLayer, windows: int, queries: int, keys: int) -> Places | None:
    """Find out where a layer's tokens lie.

    Args:
        model: The network.
        layer: Of it.
        windows: Maps for each image.
        queries: Of a map.
        keys: Likewise.

    Returns:
        None where the tokens are no square grid.
    """
    prefix = int(getattr(model, "num_prefix_tokens", 0))
    if windows > 1 or _root(queries - prefix) is None or _root(keys - prefix) is None:
        prefix = 0
    side, seen = _root(queries - prefix), _root(keys - prefix)
    if side is None or seen is None:
        return None
    whole = Places(side, side, seen, prefix=prefix)
    return whole if windows == 1 else _windowed(whole, _block(model, layer), windows)


def _windowed(one: Places, block: nn.Module, windows: int) -> Places:
    """Windows of Swin's blocks, which say their shift and their grid, are put together."""
    across = _root(windows)
    side, shift = (to_2tuple(getattr(block, name, 0))[0] for name in ("input_resolution", "shift_size"))
    if across is None or one.keys != one.window or not 0 <= across * one.window - side < one.window:
        return replace(one, alone=True)
    return replace(one, side=side, across=across, shift=shift)


def _block(model: nn.Module, layer: AttentionLayer) -> nn.Module:
    return model.get_submodule(layer.name.rpartition(".")[0])


def _root(number: int) -> int | None:
    """The side of a square of so many tokens."""
    side = isqrt(max(number, 0))
    return side if side and side * side == number else None
