"""Accuracy over throughput: which axes, which dots, and which of them nothing beats."""

from __future__ import annotations

from dataclasses import dataclass

from shvit_pl.display.words import counted
from shvit_pl.sweep.report.conditions import inference_setting, training_setting
from shvit_pl.sweep.report.pareto import pareto_front
from shvit_pl.sweep.report.quantities import INFERENCE, TRAINING, Quantity, primary, quantity
from shvit_pl.sweep.report.rows import Row, Spread
from shvit_pl.sweep.results import Results


@dataclass(frozen=True)
class Axis:
    """A quantity to draw along, and under which conditions it was measured."""

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
    """Two quantities, and a dot for each cell that both are known of.

    Attributes:
        across: Along x.
        up: Along y.
        dots: In the order of the sweep.
        cells: How many cells have a run that is done.
    """

    across: Axis
    up: Axis
    dots: tuple[Dot, ...]
    cells: int

    @property
    def front(self) -> list[Dot]:
        """What nothing beats, in order of x."""
        return sorted((dot for dot in self.dots if dot.on_front), key=lambda dot: dot.x.mean)

    @property
    def left_out(self) -> str:
        """How many cells are not drawn, and why; empty where all are."""
        if len(self.dots) == self.cells:
            return ""
        lacking = f"{self.up.quantity.name} or {self.across.quantity.name}"
        return f"{len(self.dots)} of {counted(self.cells, 'cell')} with a run that is done; the others lack {lacking}"


def plane(results: Results, rows: list[Row]) -> Plane:
    """Accuracy over throughput; of a search for several objectives the first two that matter."""
    up = primary(results)
    others = [quantity(key, way) for key, way in results.objectives.items() if key != up.key]
    across = _axis(others[0], results) if results.kind == "search" and others else _throughput(results, rows, up)
    return Plane(across, Axis(up), _dots(rows, across.quantity, up), sum(row.done > 0 for row in rows))


def _throughput(results: Results, rows: list[Row], up: Quantity) -> Axis:
    """Compiled inference, or eager, if all cells that can be drawn have it; else training."""
    drawn = [row for row in rows if up.key in row.values]
    inference = (quantity(INFERENCE[how]) for how in ("compiled", "eager"))
    complete = (of for of in inference if drawn and all(of.key in row.values for row in drawn))
    return _axis(next(complete, quantity(TRAINING)), results)


def _axis(of: Quantity, results: Results) -> Axis:
    if of.is_inference:
        return Axis(of, inference_setting(results))
    return Axis(of, training_setting(results) if of.key == TRAINING else "")


def _dots(rows: list[Row], x: Quantity, y: Quantity) -> tuple[Dot, ...]:
    known = [(row, row.values[x.key], row.values[y.key]) for row in rows if {x.key, y.key} <= row.values.keys()]
    front = pareto_front([(a.mean, b.mean) for _, a, b in known], (x.direction, y.direction))
    return tuple(Dot(row, a, b, bool(best)) for (row, a, b), best in zip(known, front, strict=True))
