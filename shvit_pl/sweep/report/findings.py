"""What a report shows in numbers, worked out once: the table, effects, Pareto front, curves and conditions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from shvit_pl.display.words import counted
from shvit_pl.sweep.plan.definition import Direction
from shvit_pl.sweep.report.comparisons import Effects, compare
from shvit_pl.sweep.report.conditions import describe_conditions, inference_setting, training_setting
from shvit_pl.sweep.report.quantities import INFERENCE, TRAINING, Quantity, quantity
from shvit_pl.sweep.report.table import Row, Spread, Table, make_table
from shvit_pl.sweep.results import Results

MOST_CURVES = 12  # more lines can't be told apart


@dataclass(frozen=True)
class Axis:
    """A quantity to draw along, and the conditions under which it was measured."""

    quantity: Quantity
    conditions: str = ""


@dataclass(frozen=True)
class Dot:
    """A cell in the plane."""

    row: Row
    x: Spread
    y: Spread
    on_front: bool


@dataclass(frozen=True)
class Plane:
    """Two quantities, and a dot for each cell that has both."""

    across: Axis
    up: Axis
    dots: list[Dot]
    """In the order of the sweep."""
    cells: int
    """Number of cells with a run that is done."""

    @property
    def front(self) -> list[Dot]:
        """The dots on the Pareto front, in order of x."""
        return sorted((dot for dot in self.dots if dot.on_front), key=lambda dot: dot.x.mean)

    @property
    def left_out(self) -> str:
        """Number of cells that are not drawn, and the reason; empty where all are."""
        if len(self.dots) == self.cells:
            return ""
        lacking = f"{self.up.quantity.name} or {self.across.quantity.name}"
        return f"{len(self.dots)} of {counted(self.cells, 'cell')} with a run that is done; the others lack {lacking}"


@dataclass(frozen=True)
class Curve:
    """Mean, least and largest value over the seeds that reached an epoch."""

    row: Row
    epochs: list[float]
    mean: list[float]
    low: list[float]
    high: list[float]


@dataclass(frozen=True)
class Findings:
    """The numbers of a report."""

    table: Table
    effects: Effects
    """What each choice brings and costs."""
    plane: Plane
    """The rows as dots."""
    curves: list[Curve]
    """The primary quantity over epochs."""
    conditions: dict[str, str]
    """How the numbers came about, by title."""

    @property
    def results(self) -> Results:
        """Where they come from."""
        return self.table.results


def findings_of(results: Results) -> Findings:
    """Work out a report's numbers."""
    table = make_table(results)
    curves = [_curve(row, table.primary) for row in table.rows]
    published = [row.paper for row in table.rows if row.paper]
    return Findings(
        table,
        compare(table),
        _plane(table),
        [curve for curve in curves if curve.epochs],
        describe_conditions(results, published),
    )


def best_curves(curves: list[Curve], of: Quantity) -> list[Curve]:
    """Return at most as many curves as a figure can hold: those that reached the best values."""
    if len(curves) <= MOST_CURVES:
        return curves
    ranked = sorted(curves, key=lambda one: max(one.mean) if of.direction == "max" else -min(one.mean), reverse=True)
    chosen = {one.row.number for one in ranked[:MOST_CURVES]}
    return [one for one in curves if one.row.number in chosen]


def pareto_front(points: ArrayLike, directions: tuple[Direction, ...]) -> NDArray[np.bool_]:
    """Return which of the points `(N, K)` no other point beats in one of K directions without losing in another."""
    signs = np.array([1.0 if direction == "min" else -1.0 for direction in directions])
    costs = np.asarray(points, dtype=float).reshape(-1, len(directions)) * signs
    ours, theirs = costs[:, None], costs[None]  # (N, 1, K), (1, N, K)
    beaten = (theirs <= ours).all(axis=-1) & (theirs < ours).any(axis=-1)
    return ~beaten.any(axis=1)


def best_first(points: ArrayLike, directions: tuple[Direction, ...], most: int) -> list[int]:
    """Return the indices of at most so many points `(N, K)`: of the front, then of the front of the rest, and so on.

    Those of one front are in the order of the first direction; a point with an unknown number is left out.
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


def _plane(table: Table) -> Plane:
    """Return accuracy over throughput; for a search for several objectives, the first two that matter."""
    results, up = table.results, table.primary
    others = [quantity(key, way) for key, way in results.objectives.items() if key != up.key]
    across = others[0] if results.kind == "search" and others else _throughput(table)
    conditions = inference_setting(results) if across.is_inference else ""
    if across.key == TRAINING:
        conditions = training_setting(results)
    both = [row for row in table.rows if {across.key, up.key} <= row.values.keys()]
    known = [(row, row.values[across.key], row.values[up.key]) for row in both]
    front = pareto_front([(x.mean, y.mean) for _, x, y in known], (across.direction, up.direction))
    dots = [Dot(*one, on_front=bool(best)) for one, best in zip(known, front, strict=True)]
    return Plane(Axis(across, conditions), Axis(up), dots, sum(bool(row.cell.done) for row in table.rows))


def _throughput(table: Table) -> Quantity:
    """Return compiled inference, or eager, if all cells that can be drawn have it; else training."""
    drawn = [row for row in table.rows if table.primary.key in row.values]
    inference = (quantity(INFERENCE[mode]) for mode in ("compiled", "eager"))
    complete = (one for one in inference if drawn and all(one.key in row.values for row in drawn))
    return next(complete, quantity(TRAINING))


def _curve(row: Row, of: Quantity) -> Curve:
    """Return the curve of the runs that are done, or of those that still run where none is."""
    values: dict[float, list[float]] = {}
    for run in row.cell.done or row.cell.runs:
        for epoch, value in run.curves.get(of.key, []):
            values.setdefault(epoch, []).append(value * of.scale)
    epochs = sorted(values)
    by_epoch = [values[epoch] for epoch in epochs]
    means = [sum(one) / len(one) for one in by_epoch]
    return Curve(row, epochs, means, [min(one) for one in by_epoch], [max(one) for one in by_epoch])
