"""What each choice brings and costs, and whether one depends on another.

Gains (accuracies and other noisy objectives) are differences with an interval and a p over seeds. Costs are ratios:
geometric means over all pairs, with the seeds' range where it has one. They get no p, for seeds do not make them.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from math import exp, log

import numpy as np

from shvit_pl.sweep.report.factors import Factor, compared
from shvit_pl.sweep.report.paired import Estimate, Table, at, corrected, difference, estimate, noise, over_seeds
from shvit_pl.sweep.report.quantities import Quantity, cell_values, quantities
from shvit_pl.sweep.results import Cell, Results


@dataclass(frozen=True)
class Contrast:
    """One level of a factor against its first one."""

    axis: int
    factor: Factor
    level: str

    @property
    def base(self) -> str:
        """The first level."""
        return self.factor.levels[0]

    @property
    def text(self) -> str:
        """Such as `patch_size 16 instead of 4`."""
        return f"{self.factor.header} {self.level} instead of {self.base}".strip()

    @property
    def short(self) -> str:
        """Such as `patch_size 16`."""
        return f"{self.factor.header} {self.level}".strip()

    def of(self, table: Table) -> Table:
        """The paired differences."""
        return difference(table, self.axis, self.base, self.level)


@dataclass(frozen=True)
class Ratio:
    """How many times a cost: geometric mean over the pairs, least and largest over seeds."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Main:
    """What a level changes, averaged over all other choices; by key of the quantity."""

    contrast: Contrast
    gains: dict[str, Estimate]
    costs: dict[str, Ratio]


@dataclass(frozen=True)
class Interaction:
    """How much what `first` changes differs between the levels of `second`.

    Attributes:
        first: The changing level.
        second: The level it may depend on.
        gains: The difference of the differences, by key of the quantity.
        apart: What `first` changes at the base and at the level of `second`, by key of the quantity.
    """

    first: Contrast
    second: Contrast
    gains: dict[str, Estimate]
    apart: dict[str, tuple[float, float]]


@dataclass(frozen=True)
class Effects:
    """All effects of a sweep."""

    gains: tuple[Quantity, ...]
    costs: tuple[Quantity, ...]
    main: tuple[Main, ...]
    interactions: tuple[Interaction, ...]


def effects(results: Results) -> Effects:
    """Main effects and interactions of all choices; none for a search, whose points are not drawn by design."""
    factors, known = compared(results), quantities(results)
    gains, costs = [one for one in known if not one.is_cost], [one for one in known if one.is_cost]
    mains = [Contrast(axis, factor, level) for axis, factor in enumerate(factors) for level in factor.levels[1:]]
    crossed = [(one, other) for one, other in combinations(mains, 2) if one.axis != other.axis]
    plan = {_combination(factors, cell): {run.seed: 0.0 for run in cell.runs} for cell in results.cells}
    tables = {one.key: _table(results, factors, one) for one in known}
    found = {one.key: _estimates(tables[one.key], plan, mains, crossed) for one in gains}
    return Effects(
        gains=tuple(gains),
        costs=tuple(costs),
        main=tuple(
            Main(contrast, {key: each[i] for key, each in found.items()}, _ratios(contrast, costs, tables))
            for i, contrast in enumerate(mains)
        ),
        interactions=tuple(
            Interaction(*pair, {key: each[i] for key, each in found.items()}, _apart(pair, gains, tables))
            for i, pair in enumerate(crossed, start=len(mains))
        ),
    )


def estimates(found: Effects, of: Quantity) -> list[tuple[str, Estimate]]:
    """Main effects, then interactions of one quantity, with short names."""
    if of.key not in {one.key for one in found.gains}:
        return []
    mains = [(one.contrast.text, one.gains[of.key]) for one in found.main]
    crossed = [(f"{one.first.short} by {one.second.short}", one.gains[of.key]) for one in found.interactions]
    return mains + crossed


def _combination(factors: list[Factor], cell: Cell) -> tuple[str, ...]:
    return tuple(factor.level(cell) for factor in factors)


def _table(results: Results, factors: list[Factor], of: Quantity) -> Table:
    """Values as shown by combination and seed; of costs their logarithms."""
    table: Table = {}
    for cell in results.cells:
        values = cell_values(results, cell, of)
        if of.is_cost:
            values = {seed: log(value) for seed, value in values.items() if value > 0}
        else:
            values = {seed: value * of.scale for seed, value in values.items()}
        table[_combination(factors, cell)] = values
    return table


def _estimates(
    table: Table, plan: Table, mains: list[Contrast], crossed: list[tuple[Contrast, Contrast]]
) -> list[Estimate]:
    """All tests of one quantity: a family."""
    tests: list[tuple[Table, Table, tuple[Contrast, ...]]] = [(one.of(table), one.of(plan), (one,)) for one in mains]
    tests += [(other.of(one.of(table)), other.of(one.of(plan)), (one, other)) for one, other in crossed]
    of = noise(table) or {}
    return corrected(
        [
            estimate(found, sum(map(len, planned.values())), [of[cell] for cell in _cells(found, by)] if of else ())
            for found, planned, by in tests
        ]
    )


def _cells(differences: Table, by: tuple[Contrast, ...]) -> list[tuple[str, ...]]:
    """The cells that differences are of: two each, or four of an interaction."""
    cells = list(differences)
    for contrast in by:
        cells = [at(cell, contrast.axis, level) for cell in cells for level in (contrast.base, contrast.level)]
    return cells


def _ratios(contrast: Contrast, costs: list[Quantity], tables: dict[str, Table]) -> dict[str, Ratio]:
    logs = {one.key: over_seeds(contrast.of(tables[one.key])) for one in costs}
    return {
        key: Ratio(exp(np.mean(values)), exp(values.min()), exp(values.max()))
        for key, values in logs.items()
        if len(values)
    }


def _apart(
    pair: tuple[Contrast, Contrast], gains: list[Quantity], tables: dict[str, Table]
) -> dict[str, tuple[float, float]]:
    """Both sides of an interaction, over the same complete quadruples."""
    one, other = pair
    found = {}
    for quantity in gains:
        first = one.of(tables[quantity.key])
        complete = other.of(first)
        if complete:
            base, level = (_mean(first, complete, other.axis, side) for side in (other.base, other.level))
            found[quantity.key] = (base, level)
    return found


def _mean(table: Table, complete: Table, axis: int, level: str) -> float:
    """The mean over seeds at one level, of what is complete."""
    side = {key: {seed: table[at(key, axis, level)][seed] for seed in seeds} for key, seeds in complete.items()}
    return float(over_seeds(side).mean())
