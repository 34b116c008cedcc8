"""The table that a report is made from: one row per cell, with all that is shown of it, made in one pass."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from shvit_pl.designs.published import PaperRow, paper_row
from shvit_pl.display.words import shown
from shvit_pl.sweep.plan.definition import short_names
from shvit_pl.sweep.report.quantities import (
    INFERENCE,
    Quantity,
    primary_quantity,
    reported_quantities,
    rounded,
    run_value,
)
from shvit_pl.sweep.results import Cell, Results

_DEFAULT = "default"  # the level of a cell that does not set a flag which others do
_PAPER = {
    "source": "paper", "top1": "paper: top-1 (%)", "params_m": "paper: parameters (M)",
    "gpu": "paper: GPU images/s", "cpu": "paper: CPU images/s", "onnx": "paper: ONNX images/s",
}  # fmt: skip


@dataclass(frozen=True)
class Factor:
    """A choice that varies over the cells."""

    flags: tuple[str, ...]
    """Flags of `fit`: one, or several that always change together; none where the levels are whole cells."""
    header: str
    """The shortest end of each flag that no other flag has."""
    levels: tuple[str, ...]
    """Values as text, in the order of the sweep; the others are compared with the first."""

    def level(self, cell: Cell) -> str:
        """Return the cell's level."""
        return ", ".join(_level(cell, flag) for flag in self.flags) if self.flags else cell.name


@dataclass(frozen=True)
class Spread:
    """A quantity of a cell over its seeds; of inference speed, which is measured once, the seed is 0."""

    by_seed: dict[int, float]
    quartiles: tuple[float, float] | None = None
    """Quartiles over the rounds of a measurement of inference speed."""

    @cached_property
    def mean(self) -> float:
        """Mean over seeds."""
        return float(np.mean(list(self.by_seed.values())))

    @cached_property
    def sd(self) -> float | None:
        """Standard deviation over seeds; `None` for a single one."""
        return float(np.std(list(self.by_seed.values()), ddof=1)) if len(self.by_seed) > 1 else None

    def show(self, quantity: Quantity) -> str:
        """Format mean ± standard deviation with the mean's decimals; the mean alone where the seeds agree to them."""
        mean = quantity.show(self.mean)
        spread = rounded((self.sd or 0.0) * quantity.scale, len(mean.partition(".")[2]))
        return f"{mean} ± {spread}" if float(spread) else mean


@dataclass(frozen=True)
class Row:
    """A cell in numbers."""

    number: int
    """Position in the sweep, from 1."""
    cell: Cell
    name: str
    """Name for a legend: the levels, or the name of a list's row."""
    levels: dict[str, str]
    """Levels of the choices that vary, by header."""
    values: dict[str, Spread]
    """Quantities of the runs that are done, by key."""
    speed: dict[str, Any]
    """Inference speed as `shvit_pl.sweep.speed` has it."""
    paper: PaperRow | None
    """The published counterpart."""

    @property
    def label(self) -> str:
        """Number and name."""
        return f"{self.number}: {self.name}"

    @property
    def runs(self) -> str:
        """Number of runs that are done, such as `2 of 3, 1 failed`."""
        counts = Counter(run.state for run in self.cell.runs)
        lost = [f"{counts[state]} {state}" for state in ("failed", "pruned") if counts[state]]
        return ", ".join([f"{len(self.cell.done)} of {len(self.cell.runs)}", *lost])

    def show(self, quantity: Quantity) -> str:
        """Format a quantity; empty where it is not known."""
        return self.values[quantity.key].show(quantity) if quantity.key in self.values else ""


@dataclass(frozen=True)
class Table:
    """All cells of a sweep in numbers."""

    results: Results
    factors: list[Factor]
    """The choices that vary."""
    quantities: list[Quantity]
    """What at least one cell has."""
    primary: Quantity
    """What the report is about."""
    rows: list[Row]

    @property
    def names_title(self) -> str:
        """What the names of the rows are made of, for the title of a legend."""
        return "" if self.results.kind == "list" else " · ".join(factor.header for factor in self.factors)

    def array(self, quantity: Quantity) -> NDArray[np.float64]:
        """Return a quantity as an array `(cells, seeds)`, with NaN for what is missing."""
        by_seed = [row.values[quantity.key].by_seed if quantity.key in row.values else {} for row in self.rows]
        seeds = sorted({seed for values in by_seed for seed in values})
        values = [[own.get(seed, np.nan) for seed in seeds] for own in by_seed]
        return np.array(values).reshape(len(by_seed), len(seeds))


@dataclass(frozen=True)
class Column:
    """A column of the table as it is shown, with one entry per row."""

    header: str
    kind: Literal["number", "name", "choice", "runs", "quantity", "paper"]
    text: list[str]
    numbers: list[float | None] | None = None
    """Numbers to sort by; `None` for a column that is sorted by its text."""


def make_table(results: Results) -> Table:
    """Work out one row per cell."""
    factors, candidates = varying(results), reported_quantities(results)
    rows = [_row(results, number, cell, factors, candidates) for number, cell in enumerate(results.cells, start=1)]
    known = [one for one in candidates if any(one.key in row.values for row in rows)]
    return Table(results, factors, known, primary_quantity(results), rows)


def columns(table: Table) -> list[Column]:
    """Return the columns of a table; with the cells' names for a list, where they say more than the choices."""
    rows = table.rows
    names = [Column("cell", "name", [row.name for row in rows])] if table.results.kind == "list" else []
    published = (_published(rows, key, header) for key, header in _PAPER.items())
    return [
        Column("no.", "number", [str(row.number) for row in rows], [row.number for row in rows]),
        *names,
        *(Column(factor.header, "choice", [row.levels[factor.header] for row in rows]) for factor in table.factors),
        Column("runs done", "runs", [row.runs for row in rows], [len(row.cell.done) for row in rows]),
        *(_measured(rows, one) for one in table.quantities),
        *(column for column in published if any(column.text)),
    ]


def varying(results: Results) -> list[Factor]:
    """Return all choices that vary."""
    headers = short_names(_flags(results))
    factors = (Factor((flag,), header, _levels(results.cells, flag)) for flag, header in headers.items())
    return [factor for factor in factors if len(factor.levels) > 1]


def constants(results: Results) -> dict[str, str]:
    """Return the flags that have the same value in all cells."""
    levels = {flag: _levels(results.cells, flag) for flag in _flags(results)}
    return {flag: values[0] for flag, values in levels.items() if len(values) == 1}


def _row(results: Results, number: int, cell: Cell, factors: list[Factor], quantities: list[Quantity]) -> Row:
    levels = {factor.header: factor.level(cell) for factor in factors}
    name = cell.name if results.kind == "list" else " · ".join(levels.values()) or cell.name
    speed = ((results.speed or {}).get("cells") or {}).get(cell.name) or {}
    spreads = {one.key: _spread(cell, one, speed) for one in quantities}
    summary = next((run.summary for run in cell.done if run.summary), None)
    published = paper_row(summary) if summary else None
    return Row(number, cell, name, levels, {key: s for key, s in spreads.items() if s.by_seed}, speed, published)


def _spread(cell: Cell, quantity: Quantity, speed: dict[str, Any]) -> Spread:
    for mode, key in INFERENCE.items():
        if quantity.key == key:
            rate, quartiles = speed.get(mode), speed.get(f"{mode}_iqr")
            low_high = (float(quartiles[0]), float(quartiles[1])) if quartiles else None
            return Spread({} if rate is None else {0: float(rate)}, low_high)
    values = {run.seed: run_value(run, quantity.key) for run in cell.done}
    return Spread({seed: value for seed, value in values.items() if value is not None})


def _measured(rows: list[Row], quantity: Quantity) -> Column:
    means = [row.values[quantity.key].mean if quantity.key in row.values else None for row in rows]
    return Column(quantity.header, "quantity", [row.show(quantity) for row in rows], means)


def _published(rows: list[Row], key: str, header: str) -> Column:
    values = [getattr(row.paper, key, None) for row in rows]
    numbers = [None if value is None else float(value) for value in values] if key != "source" else None
    return Column(header, "paper", ["" if value is None else str(value) for value in values], numbers)


def _flags(results: Results) -> list[str]:
    return list(dict.fromkeys(flag for cell in results.cells for flag in cell.choices))


def _level(cell: Cell, flag: str) -> str:
    return shown(cell.choices[flag]) if flag in cell.choices else _DEFAULT


def _levels(cells: Iterable[Cell], flag: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(_level(cell, flag) for cell in cells))
