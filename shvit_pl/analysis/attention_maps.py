"""Recording of attention maps: how similar the heads' are, and what a query attends to in the image."""

from dataclasses import dataclass, field, replace
from math import isqrt

import torch
from timm.layers import to_2tuple
from torch import Tensor, nn

from shvit_pl.analysis.attention_layers import AttentionLayer, recorded_maps, sample_similarity, without_prefix
from shvit_pl.analysis.heads_subject import Subject
from shvit_pl.data.transforms import viewable
from shvit_pl.errors import UserError

_ROUNDING = 1e-5  # relative difference of equal attention


@dataclass(frozen=True)
class LayerMaps:
    """Records of a layer."""

    similarity: Tensor
    """Each head's mean cosine similarity with the layer's other heads `(images, heads)`."""
    keys: int
    """Tokens that a query of the compared maps attends to."""
    even: bool
    """In every map, each query attends to all of them alike."""
    picture: Tensor = field(default_factory=lambda: torch.empty(0))
    """Attention of the query, summed over images `(heads, side, side)`; empty where tokens are no grid."""
    query: tuple[float, float] = (0.0, 0.0)
    """Place of the query in the picture, down and right, from 0 to 1."""
    middle_window: bool = False
    """The picture is of one window, whose place is not known."""


class AttentionRecorder:
    """Records how similar the heads' attention maps are, and what they attend to (paper sec. 2.2, Figs. 3 and 4)."""

    def __init__(self, subject: Subject) -> None:
        self.layers: list[LayerMaps] = []
        self.images = 0
        self.drawn_images = 0
        """Images of which the layers' pictures are the sum."""
        self.drawn_image: Tensor | None = None
        """The image of the pictures `(3, S, S)` from 0 to 1, where one was asked for."""
        self.first_grid: TokenGrid | None = None
        """The first grid of a layer's tokens, in which `--query` is."""
        self._subject = subject

    def add(self, images: Tensor) -> None:
        """Record the maps of a batch `(B, 3, S, S)`."""
        subject, chosen = self._subject, self._subject.options.image
        drawn = [place for place in range(len(images)) if chosen in (None, self.images + place)]
        batch: list[LayerMaps] = []

        def record(layer: AttentionLayer, maps: Tensor) -> None:
            batch.append(self._layer_maps(layer, maps, len(images), drawn))

        with torch.no_grad(), recorded_maps(subject.opened.model, subject.layers, record):
            subject.opened.model(images)
        if self.layers:
            batch = [_joined(old, new) for old, new in zip(self.layers, batch, strict=True)]
        self.layers = batch
        self.images += len(images)
        self.drawn_images += len(drawn)
        if chosen is not None and drawn:
            opened = subject.opened
            self.drawn_image = viewable(images[drawn], tuple(opened.mean), tuple(opened.std))[0].cpu()

    def _layer_maps(self, layer: AttentionLayer, maps: Tensor, images: int, drawn: list[int]) -> LayerMaps:
        subject, options = self._subject, self._subject.options
        samples, _, queries, keys = maps.shape
        grid = token_grid(subject.opened.model, layer, samples // images, queries, keys)
        prefix = grid.prefix if grid else subject.prefix_tokens
        if options.class_token == "keep" or (grid is None and not queries <= prefix < keys):
            prefix = 0  # without a grid, only class attention is known to have the class token first
        compared = without_prefix(maps, prefix)
        similarity = sample_similarity(compared, options.vectorize)
        similarity = similarity.reshape(images, -1, layer.heads).mean(1).cpu()  # (images, windows, heads) before
        low, high = compared.aminmax(dim=-1)
        found = LayerMaps(similarity, compared.shape[-1], bool((high - low <= _ROUNDING * high).all()))
        if grid is None:
            return found
        self.first_grid = first = self.first_grid or grid
        row, column = options.query or (first.side // 2, first.side // 2)
        if max(row, column) >= first.side:
            raise UserError(
                f"--query {row},{column}: the first layer's grid has rows and columns 0 to {first.side - 1} at "
                f"{subject.image_size} px."
            )
        row, column = grid.same_place(row, column, first)
        picture = grid.query_maps(maps, images, row, column).cpu()[drawn].double().sum(0)
        place = ((row + 0.5) / grid.side, (column + 0.5) / grid.side)
        return replace(found, picture=picture, query=place, middle_window=grid.middle_window)


def _joined(old: LayerMaps, new: LayerMaps) -> LayerMaps:
    """Join the records of a layer's earlier batches and the next one."""
    similarity, picture = torch.cat([old.similarity, new.similarity]), old.picture + new.picture
    return replace(new, similarity=similarity, picture=picture, even=old.even and new.even)


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

    def same_place(self, row: int, column: int, other: "TokenGrid") -> tuple[int, int]:
        """Return the query at the same place of the image as `row` and `column` in another layer's grid."""
        row, column = ((2 * place + 1) * self.side // (2 * other.side) for place in (row, column))
        return row, column

    def query_maps(self, maps: Tensor, images: int, row: int, column: int) -> Tensor:
        """Cut the maps of the query at a row and column out of a layer's `(images * windows, heads, queries, keys)`.

        Returns:
            `(images, heads, side, side)`; nan where the query can't look.
        """
        down, right = ((place - self.shift) % self.side for place in (row, column))
        window = (down // self.window, right // self.window)
        token = down % self.window * self.window + right % self.window + self.prefix
        by_window = maps.reshape(images, -1, *maps.shape[1:])  # (images, windows, heads, queries, keys)
        number = by_window.shape[1] // 2 if self.middle_window else window[0] * self.across + window[1]
        # the query's part of the map, laid out as the window that it sees: (images, heads, keys, keys)
        seen = by_window[:, number, :, token, self.prefix :].reshape(images, -1, self.keys, self.keys)
        if self.middle_window or self.across == 1:
            return seen
        top, left = (place * self.window for place in window)
        whole = seen.new_full((*seen.shape[:2], *[self.across * self.window] * 2), torch.nan)
        whole[..., top : top + self.window, left : left + self.window] = seen
        # as Swin's blocks put windows together: the padding is cut off, the shift undone
        return whole[..., : self.side, : self.side].roll((self.shift, self.shift), (-2, -1))


def token_grid(model: nn.Module, layer: AttentionLayer, windows: int, queries: int, keys: int) -> TokenGrid | None:
    """Find the grid of a layer's tokens, from the windows of an image and the queries and keys of a map.

    Windows are put together where the layer's block has the attributes of Swin's; `None` where tokens are no square.
    """
    prefix = int(getattr(model, "num_prefix_tokens", 0))
    if windows > 1 or not (_root(queries - prefix) and _root(keys - prefix)):
        prefix = 0
    window, keys_side, across = _root(queries - prefix), _root(keys - prefix), _root(windows)
    if not window or not keys_side:
        return None
    grid = TokenGrid(window, window, keys_side, prefix=prefix)
    if windows == 1:
        return grid
    block = model.get_submodule(layer.name.rpartition(".")[0])
    side, shift = (to_2tuple(getattr(block, name, 0))[0] for name in ("input_resolution", "shift_size"))
    if not across or keys_side != window or not 0 <= across * window - side < window:
        return replace(grid, middle_window=True)
    return replace(grid, side=side, across=across, shift=shift)


def _root(number: int) -> int:
    """Return the side of a square of so many tokens; 0 where they are none."""
    side = isqrt(max(number, 0))
    return side if side * side == number else 0
