"""What a study has found so far: sums and counts, kept after every batch."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from shvit_pl.files import replacing


@dataclass
class Found:
    """What has been found of `looked` and `scored` batches; lists have an entry for each layer.

    Attributes:
        looked: Batches whose maps have been compared.
        similarity: Of each image and head, the mean cosine similarity with the layer's other heads `(images, heads)`.
        pictures: What the query attends to, summed over `pictured` images `(heads, side, side)`; empty where tokens are
            no grid.
        pictured: Images in `pictures`.
        queries: Where the query is in each layer's picture, down and right, from 0 to 1.
        windows: Whether a layer's picture is of one window, whose place is not known.
        grid: Side of the first layer's grid.
        image: The one that `pictures` are of, `(3, S, S)` from 0 to 1; empty where they are a mean.
        scored: Batches whose top-1 has been measured.
        images: Images in them.
        intact: Matching answers of the whole network.
        matching: Likewise without one head and with one alone `(2, heads)`.
    """

    looked: int = 0
    similarity: list[Tensor] = field(default_factory=list)
    pictures: list[Tensor] = field(default_factory=list)
    pictured: int = 0
    queries: list[tuple[float, float]] = field(default_factory=list)
    windows: list[bool] = field(default_factory=list)
    grid: int = 0
    image: Tensor = field(default_factory=lambda: torch.empty(0))
    scored: int = 0
    images: int = 0
    intact: int = 0
    matching: list[Tensor] = field(default_factory=list)

    def save(self, path: Path) -> None:
        """Write it at once."""
        with replacing(path) as partial:
            torch.save(vars(self), partial)


def read_found(path: Path) -> Found:
    """Read what was saved; raises what reading a damaged file raises."""
    values: dict[str, Any] = torch.load(path, weights_only=True)
    return Found(**values)
