"""Accuracy over throughput: which axes, which points, and which of them nothing beats."""

from __future__ import annotations

from dataclasses import dataclass

from shvit_pl.sweep.report.pareto import pareto_front
from shvit_pl.sweep.report.quantities import INFERENCE, TRAINING, Quantity, cell_values, primary, quantity
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


def plane(results: Results) -> tuple[Axis, Axis]:
    """The axes x and y: throughput and accuracy; of a search for two objectives these."""
    across, up = throughput(results), primary(results)
    others = [quantity(key, way) for key, way in results.objectives.items() if key != up.key]
    if results.kind == "search" and others:
        across = Axis(others[0], training_conditions(results) if others[0].key == TRAINING else "")
    return across, Axis(up)


def throughput(results: Results) -> Axis:
    """Compiled inference, or eager where a cell was not compiled, or training where nothing else was measured."""
    eager, compiled = (quantity(INFERENCE[how]) for how in ("eager", "compiled"))
    have = {one.key: [cell for cell in results.cells if cell_values(results, cell, one)] for one in (eager, compiled)}
    if not have[eager.key]:
        return Axis(quantity(TRAINING), training_conditions(results))
    every_one = len(have[compiled.key]) == len(have[eager.key])
    measured = (results.speed or {}).get("conditions") or {}
    keys = {"device": "", "batch": "batch ", "dtype": "", "image_size": "", "threads": "threads "}
    shown = {key: measured[key] for key in keys if measured.get(key) is not None}
    parts = [f"{shown[key]} px" if key == "image_size" else f"{keys[key]}{shown[key]}" for key in shown]
    return Axis(compiled if every_one else eager, ", ".join(parts))


def training_conditions(results: Results) -> str:
    """Device, batch and precision of the runs."""
    summaries = [run.summary for cell in results.cells for run in cell.done if run.summary]
    keys = {"device": "", "global_batch": "batch ", "precision": ""}
    known = {key: sorted({str(one[key]) for one in summaries if one.get(key) is not None}) for key in keys}
    return ", ".join(keys[key] + " or ".join(values) for key, values in known.items() if values)


def dots(rows: list[Row], across: Axis, up: Axis) -> list[Dot]:
    """The cells that both are known of."""
    x, y = across.quantity, up.quantity
    known = [(row, row.values[x.key], row.values[y.key]) for row in rows if {x.key, y.key} <= row.values.keys()]
    front = pareto_front([(a.mean, b.mean) for _, a, b in known], (x.direction, y.direction))
    return [Dot(row, a, b, bool(best)) for (row, a, b), best in zip(known, front, strict=True)]


def front_line(dots: list[Dot]) -> list[Dot]:
    """The front in order of x."""
    return sorted((dot for dot in dots if dot.on_front), key=lambda dot: dot.x.mean)
