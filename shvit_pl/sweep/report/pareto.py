"""What nothing else beats."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from shvit_pl.sweep.plan.objectives import Direction


def pareto_front(points: ArrayLike, directions: tuple[Direction, ...]) -> NDArray[np.bool_]:
    """Which of the points `(N, K)` no other point beats in one of the K directions without losing in another."""
    signs = np.array([1.0 if direction == "min" else -1.0 for direction in directions])
    costs = np.asarray(points, dtype=float).reshape(-1, len(directions)) * signs
    ours, theirs = costs[:, None], costs[None]
    beaten = (theirs <= ours).all(axis=-1) & (theirs < ours).any(axis=-1)
    return ~beaten.any(axis=1)


def best_first(points: ArrayLike, directions: tuple[Direction, ...], most: int) -> list[int]:
    """The indices of at most so many points `(N, K)`: of the front, then of the front of the rest, and so on.

    Those of one front are in the order of the first direction; a point of which a number is not known has no place.
    """
    values = np.asarray(points, dtype=float).reshape(-1, len(directions))
    left, order = np.flatnonzero(np.isfinite(values).all(axis=1)), list[int]()
    while len(left) and len(order) < most:
        on_front = pareto_front(values[left], directions)
        front = left[on_front]
        ranks = np.argsort(values[front, 0] * (1 if directions[0] == "min" else -1), kind="stable")
        order += front[ranks].tolist()
        left = left[~on_front]
    return order[:most]
