"""What nothing else beats."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from shvit_pl.sweep.results import Direction


def pareto_front(points: ArrayLike, directions: tuple[Direction, ...]) -> NDArray[np.bool_]:
    """Which of the points `(N, K)` no other point beats in one of the K directions without losing in another."""
    signs = np.array([1.0 if direction == "min" else -1.0 for direction in directions])
    costs = np.asarray(points, dtype=float).reshape(-1, len(directions)) * signs
    ours, theirs = costs[:, None], costs[None]
    beaten = (theirs <= ours).all(axis=-1) & (theirs < ours).any(axis=-1)
    return ~beaten.any(axis=1)
