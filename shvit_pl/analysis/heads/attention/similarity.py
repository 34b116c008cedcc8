"""How alike the heads of a layer are."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from shvit_pl.errors import UserError

Vectorise = Literal["map", "query"]


def head_similarity(maps: Tensor, vectorise: Vectorise = "map") -> Tensor:
    """Mean cosine similarity between each head and the other heads of its layer (paper sec. 2.2, Figs. 3 and 4).

    The paper does not say what its vectors are. A class token counts unless `without_prefix` has dropped it.

    Args:
        maps: Attention maps `(N, heads, queries, keys)`, such as `seen_maps` gives; N are images, or windows.
        vectorise: `map` compares whole maps; `query` compares the distributions of each query, and takes the mean.

    Returns:
        `(heads,)`, from 0 to 1 for maps without negative values; nan for one head, which has no others.

    Raises:
        UserError: (a `ValueError`) for anything else than such maps and choices.
    """
    return per_sample(maps, vectorise).mean(0)


def per_sample(maps: Tensor, vectorise: Vectorise = "map") -> Tensor:
    """What `head_similarity` is the mean of: `(N, heads)`, of every image or window by itself.

    Args:
        maps: As in `head_similarity`.
        vectorise: Likewise.
    """
    if vectorise not in ("map", "query"):
        raise UserError(f"vectorise {vectorise!r}: allowed are map and query.")
    if maps.ndim != 4:
        raise UserError(f"maps of shape {tuple(maps.shape)}: expected (N, heads, queries, keys).")
    vectors = maps.flatten(2).unsqueeze(2) if vectorise == "map" else maps
    unit = F.normalize(vectors.float(), dim=-1)
    heads, compared = unit.shape[1:3]
    cosines = torch.einsum("nhqk,ngqk->nhg", unit, unit) / compared
    return (cosines.sum(-1) - cosines.diagonal(dim1=-2, dim2=-1)) / (heads - 1)
