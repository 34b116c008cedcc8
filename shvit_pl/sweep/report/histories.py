"""A metric over the epochs, for each cell over its seeds."""

from __future__ import annotations

from dataclasses import dataclass

from shvit_pl.sweep.report.quantities import Quantity
from shvit_pl.sweep.report.rows import Row

MOST = 12  # more lines can't be told apart


@dataclass(frozen=True)
class Curve:
    """Mean, least and largest value over the seeds that reached an epoch."""

    row: Row
    epochs: list[float]
    mean: list[float]
    low: list[float]
    high: list[float]


def curves(rows: list[Row], of: Quantity) -> list[Curve]:
    """One curve per cell: of the runs that are done, or of those on their way where none is."""
    every = [_curve(row, of) for row in rows]
    return [curve for curve in every if curve.epochs]


def best(curves: list[Curve], of: Quantity) -> list[Curve]:
    """At most as many as a figure can hold: those that came furthest."""
    if len(curves) <= MOST:
        return curves
    ranked = sorted(curves, key=lambda one: max(one.mean) if of.direction == "max" else -min(one.mean), reverse=True)
    chosen = {one.row.number for one in ranked[:MOST]}
    return [one for one in curves if one.row.number in chosen]


def _curve(row: Row, of: Quantity) -> Curve:
    runs = row.cell.done or row.cell.runs
    values: dict[float, list[float]] = {}
    for run in runs:
        for epoch, value in run.curves.get(of.key, []):
            values.setdefault(epoch, []).append(value * of.scale)
    epochs = sorted(values)
    each = [values[epoch] for epoch in epochs]
    means = [sum(one) / len(one) for one in each]
    return Curve(row, epochs, means, [min(one) for one in each], [max(one) for one in each])
