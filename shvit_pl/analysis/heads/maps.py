"""Recording of attention maps: how similar the heads' are, and what a query attends to in the image."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import isqrt

import torch
from timm.layers import to_2tuple
from torch import Tensor, nn

from shvit_pl.analysis.heads.attention import AttentionLayer, recorded_maps, sample_similarity, without_prefix
from shvit_pl.analysis.heads.subject import Subject
from shvit_pl.errors import UserError


@dataclass(frozen=True)
class LayerMaps:
    """What was recorded of a layer."""

    similarity: Tensor
    """Each head's mean cosine similarity with the layer's other heads `(images, heads)`."""
    picture: Tensor = field(default_factory=lambda: torch.empty(0))
    """Attention of the query, summed over images `(heads, side, side)`; empty where tokens are no grid."""
    query: tuple[float, float] = (0.0, 0.0)
    """Place of the query in the picture, down and right, from 0 to 1."""
    middle_window: bool = False
    """The picture is of one window, whose place is not known."""

    def __add__(self, other: LayerMaps) -> LayerMaps:
        """Return the maps of both sets of images."""
        return replace(
            self, similarity=torch.cat([self.similarity, other.similarity]), picture=self.picture + other.picture
        )


class AttentionRecorder:
    """Records how similar the heads' attention maps are, and what they attend to (paper sec. 2.2, Figs. 3 and 4).

    Args:
        subject: What is studied.
    """

    def __init__(self, subject: Subject) -> None:
        self.layers: list[LayerMaps] = []
        """What was recorded, layer by layer."""
        self.images = 0
        """Images that were recorded."""
        self.drawn_images = 0
        """Images of which the layers' pictures are the sum."""
        self.drawn_image: Tensor | None = None
        """The image of the pictures `(3, S, S)` from 0 to 1, where one was asked for."""
        self.grid_side = 0
        """Side of the first layer's grid; 0 where its tokens are no grid."""
        self._subject = subject
        self._batch: list[LayerMaps] = []
        self._batch_size = 0
        self._drawn: list[int] = []
        self._first_grid: TokenGrid | None = None

    def add(self, images: Tensor) -> None:
        """Record the maps of a batch `(B, 3, S, S)`."""
        model, image = self._subject.opened.model, self._subject.options.image
        number = None if image is None else image - self.images  # in this batch, or outside of it
        self._batch, self._batch_size = [], len(images)
        self._drawn = [place for place in range(len(images)) if number in (None, place)]
        with torch.no_grad(), recorded_maps(model, self._subject.layers, self._record):
            model(images)
        before = self.layers
        self.layers = [old + new for old, new in zip(before, self._batch, strict=True)] if before else self._batch
        self.images += len(images)
        self.drawn_images += len(self._drawn)
        self.grid_side = self._first_grid.side if self._first_grid else 0
        if image is not None and self._drawn:
            self.drawn_image = self._subject.pixels(images)[self._drawn[0]].cpu()

    def _record(self, layer: AttentionLayer, maps: Tensor) -> None:
        samples, _, queries, keys = maps.shape
        grid = token_grid(self._subject.opened.model, layer, samples // self._batch_size, queries, keys)
        dropped = self._prefix(grid, queries, keys) if self._subject.options.class_token == "drop" else 0
        compared = without_prefix(maps, dropped) if dropped else maps
        similarity = sample_similarity(compared, self._subject.options.vectorize)  # (images * windows, heads)
        similarity = similarity.reshape(self._batch_size, -1, layer.heads).mean(1).cpu()
        self._batch.append(LayerMaps(similarity) if grid is None else self._with_picture(similarity, grid, maps))

    def _prefix(self, grid: TokenGrid | None, queries: int, keys: int) -> int:
        """Return the number of tokens before the grid; where they alone ask (class attention), there is no grid."""
        if grid is not None:
            return grid.prefix
        prefix = self._subject.prefix_tokens
        return prefix if queries <= prefix < keys else 0

    def _with_picture(self, similarity: Tensor, grid: TokenGrid, maps: Tensor) -> LayerMaps:
        self._first_grid = self._first_grid or grid
        row, column = grid.same_place(*self._query(self._first_grid), self._first_grid)
        pictures = grid.query_maps(maps, self._batch_size, row, column).cpu()
        picture = pictures[self._drawn].double().sum(0)
        query = (row + 0.5) / grid.side, (column + 0.5) / grid.side
        return LayerMaps(similarity, picture, query, grid.middle_window)

    def _query(self, first_grid: TokenGrid) -> tuple[int, int]:
        """Return the query's row and column in the first layer's grid."""
        row, column = self._subject.options.query or (first_grid.side // 2, first_grid.side // 2)
        if max(row, column) >= first_grid.side:
            raise UserError(
                f"--query {row},{column}: the first layer's grid has rows and columns 0 to {first_grid.side - 1} at "
                f"{self._subject.image_size} px."
            )
        return row, column


@dataclass(frozen=True)
class TokenGrid:
    """The grid of a layer's queries and that of its keys."""

    side: int
    """Queries in a row of the whole image."""
    window: int
    """Queries in a row of a window; `side` where there are no windows."""
    keys: int
    """Keys in a row of the window that a query sees."""
    across: int = 1
    """Windows in a row, those of padding too."""
    shift: int = 0
    """Tokens by which the windows are shifted down and right."""
    prefix: int = 0
    """Tokens before those of the image, such as the class token."""
    middle_window: bool = False
    """The windows can't be put together: the middle one stands for all."""

    def same_place(self, row: int, column: int, other: TokenGrid) -> tuple[int, int]:
        """Return the query at the same place of the image as `row` and `column` in another layer's grid."""
        row, column = ((2 * place + 1) * self.side // (2 * other.side) for place in (row, column))
        return row, column

    def query_maps(self, maps: Tensor, images: int, row: int, column: int) -> Tensor:
        """Cut the maps of one query out of a layer's.

        Args:
            maps: `(images * windows, heads, queries, keys)`.
            images: Number of images.
            row: Row of the query in the grid.
            column: Column of the query in the grid.

        Returns:
            `(images, heads, side, side)`; nan where the query can't look.
        """
        down, right = ((place - self.shift) % self.side for place in (row, column))
        window = (down // self.window, right // self.window)
        token = down % self.window * self.window + right % self.window + self.prefix
        by_window = maps.reshape(images, -1, *maps.shape[1:])  # (images, windows, heads, queries, keys)
        number = by_window.shape[1] // 2 if self.middle_window else window[0] * self.across + window[1]
        seen = by_window[:, number, :, token, self.prefix :].reshape(images, -1, self.keys, self.keys)
        return seen if self.middle_window or self.across == 1 else self._in_image(seen, window)

    def _in_image(self, seen: Tensor, window: tuple[int, int]) -> Tensor:
        """Put a window in its place in the image, as Swin's blocks do: cut off the padding, shift back."""
        top, left = (place * self.window for place in window)
        whole = seen.new_full((*seen.shape[:2], *[self.across * self.window] * 2), torch.nan)
        whole[..., top : top + self.window, left : left + self.window] = seen
        return whole[..., : self.side, : self.side].roll((self.shift, self.shift), (-2, -1))


def token_grid(model: nn.Module, layer: AttentionLayer, windows: int, queries: int, keys: int) -> TokenGrid | None:
    """Find the grid of a layer's tokens; `None` where they are no square.

    Args:
        model: The network.
        layer: One of its layers.
        windows: Maps of an image.
        queries: Queries of a map.
        keys: Keys of a map.
    """
    prefix = int(getattr(model, "num_prefix_tokens", 0))
    if windows > 1 or _root(queries - prefix) is None or _root(keys - prefix) is None:
        prefix = 0
    side, keys_side = _root(queries - prefix), _root(keys - prefix)
    if side is None or keys_side is None:
        return None
    grid = TokenGrid(side, side, keys_side, prefix=prefix)
    return grid if windows == 1 else _windowed(grid, model.get_submodule(layer.name.rpartition(".")[0]), windows)


def _windowed(one: TokenGrid, block: nn.Module, windows: int) -> TokenGrid:
    """Put windows together where the block has the attributes of Swin's: its shift and its grid."""
    across = _root(windows)
    side, shift = (to_2tuple(getattr(block, name, 0))[0] for name in ("input_resolution", "shift_size"))
    if across is None or one.keys != one.window or not 0 <= across * one.window - side < one.window:
        return replace(one, middle_window=True)
    return replace(one, side=side, across=across, shift=shift)


def _root(number: int) -> int | None:
    """Return the side of a square of so many tokens."""
    side = isqrt(max(number, 0))
    return side if side and side * side == number else None
