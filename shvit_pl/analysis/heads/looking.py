"""How similar the heads' attention maps are, and what they attend to (paper sec. 2.2, Fig. 3 and 4)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from shvit_pl.analysis.heads.attention.layers import AttentionLayer
from shvit_pl.analysis.heads.attention.maps import seen_maps, without_prefix
from shvit_pl.analysis.heads.attention.places import Places, places_of
from shvit_pl.analysis.heads.attention.similarity import per_sample
from shvit_pl.analysis.heads.found.sums import Found
from shvit_pl.analysis.heads.request import Request
from shvit_pl.analysis.heads.subject import Subject
from shvit_pl.errors import UserError


@dataclass(frozen=True)
class Sight:
    """What was seen of a layer in a batch.

    Attributes:
        similarity: Each head's mean cosine similarity with the layer's others `(images, heads)`.
        picture: What the query attends to `(images, heads, side, side)`; empty where tokens are no grid.
        query: Where it is in the picture, down and right, from 0 to 1.
        window: Whether the picture is of one window, whose place is not known.
    """

    similarity: Tensor
    picture: Tensor
    query: tuple[float, float] = (0.0, 0.0)
    window: bool = False


class Looker:
    """Looks at attention maps while the network runs.

    Args:
        subject: What is studied.
        request: How maps are compared, and which are drawn.
    """

    def __init__(self, subject: Subject, request: Request) -> None:
        self.subject = subject
        self.request = request
        self._sights: list[Sight] = []
        self._first: Places | None = None
        self._images = 0

    def look(self, images: Tensor) -> list[Sight]:
        """What the layers show of a batch `(B, 3, S, S)`, layer by layer."""
        model = self.subject.opened.model
        self._sights, self._first, self._images = [], None, len(images)
        with torch.no_grad(), seen_maps(model, self.subject.layers, self._see):
            model(images)
        return self._sights

    def check(self) -> None:
        """Look at a black image; raises `UserError` where the query is not in the grid, or a layer shows no map."""
        side = self.subject.image_size
        seen = self.look(torch.zeros(1, 3, side, side, device=self.subject.device))
        if len(seen) != len(self.subject.layers):
            raise UserError(f"{self.request.network!r}: not every layer of attention shows one map for an image.")

    def _see(self, layer: AttentionLayer, maps: Tensor) -> None:
        model = self.subject.opened.model
        samples, _, queries, keys = maps.shape
        places = places_of(model, layer, samples // self._images, queries, keys)
        dropped = _prefix(model, places, queries, keys) if self.request.class_token == "drop" else 0
        values = per_sample(without_prefix(maps, dropped) if dropped else maps, self.request.vectorise)
        similarity = values.reshape(self._images, -1, layer.heads).mean(1)  # windows are samples of their image
        self._sights.append(self._pictured(Sight(similarity.cpu(), torch.empty(self._images, 0)), places, maps))

    def _pictured(self, sight: Sight, places: Places | None, maps: Tensor) -> Sight:
        if places is None:
            return sight
        self._first = self._first or places
        row, column = places.at(*self._query(self._first), self._first)
        picture = places.picture(maps, self._images, row, column).cpu()
        query = (row + 0.5) / places.side, (column + 0.5) / places.side
        return replace(sight, picture=picture, query=query, window=places.alone)

    def _query(self, first: Places) -> tuple[int, int]:
        """Row and column in the first layer's grid."""
        row, column = self.request.query or (first.side // 2, first.side // 2)
        if max(row, column) >= first.side:
            raise UserError(
                f"--query {row},{column}: the first layer's grid has rows and columns 0 to {first.side - 1} at "
                f"{self.subject.image_size} px."
            )
        return row, column

    @property
    def grid(self) -> int:
        """Side of the first layer's grid, after `look`; 0 where there is none."""
        return self._first.side if self._first else 0


def _prefix(model: nn.Module, places: Places | None, queries: int, keys: int) -> int:
    """How many tokens come before the grid; where they alone ask (class attention), there is no grid to tell."""
    if places is not None:
        return places.prefix
    prefix = int(getattr(model, "num_prefix_tokens", 0))
    return prefix if queries <= prefix < keys else 0


def add_sights(found: Found, sights: list[Sight], images: Tensor, image: int | None) -> None:
    """Count a batch's sights in.

    Args:
        found: What was found before.
        sights: Of the batch's layers.
        images: The batch `(B, 3, S, S)`, pixels from 0 to 1.
        image: The one that is drawn, of all; None: their mean.
    """
    seen = len(found.similarity[0]) if found.similarity else 0
    here = range(len(images)) if image is None else [image - seen] * (0 <= image - seen < len(images))
    pictures = [sight.picture[list(here)].double().sum(0) for sight in sights]
    new = [sight.similarity for sight in sights]
    if found.similarity:
        new = [torch.cat(pair) for pair in zip(found.similarity, new, strict=True)]
        pictures = [before + now for before, now in zip(found.pictures, pictures, strict=True)]
    found.similarity, found.pictures = new, pictures
    found.pictured += len(here)
    found.queries = [sight.query for sight in sights]
    found.windows = [sight.window for sight in sights]
    if image is not None and here:
        found.image = images[here[0]].cpu()
