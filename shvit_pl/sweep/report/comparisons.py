"""What each choice brings and costs, and whether one depends on another.

Gains (accuracies and other objectives) are differences with an interval and a p over seeds; costs are ratios with an
interval.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from math import exp, prod

import numpy as np

from shvit_pl.sweep.report.quantities import Quantity
from shvit_pl.sweep.report.statistics import (
    Array,
    Estimate,
    Groups,
    Ratio,
    cell_variances,
    corrected,
    differences,
    estimate,
    seed_means,
)
from shvit_pl.sweep.report.table import Factor, Row, Table
from shvit_pl.sweep.results import Results

_Levels = tuple[str, ...]  # of a cell, one per factor


@dataclass(frozen=True)
class Contrast:
    """One level of a factor against its first level."""

    axis: int
    """Position of the factor."""
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


@dataclass(frozen=True)
class MainEffect:
    """What a level changes, averaged over all other choices."""

    contrast: Contrast
    gains: dict[str, Estimate]
    """By key of the quantity."""
    costs: dict[str, Ratio]
    """By key of the quantity, where known."""


@dataclass(frozen=True)
class Interaction:
    """How much the change by `first` differs between the levels of `second`."""

    first: Contrast
    second: Contrast
    gains: dict[str, Estimate]
    """Differences of the differences, by key of the quantity."""
    sides: dict[str, tuple[float, float]]
    """Changes by `first` at the base and at the level of `second`, by key of each significant quantity."""


@dataclass(frozen=True)
class Effects:
    """All effects of a sweep."""

    gains: list[Quantity]
    costs: list[Quantity]
    main: list[MainEffect]
    interactions: list[Interaction]

    def estimates(self, quantity: Quantity) -> list[tuple[str, Estimate]]:
        """Return main effects, then interactions of one quantity, with their names."""
        if quantity.key not in {one.key for one in self.gains}:
            return []
        mains = [(one.contrast.text, one.gains[quantity.key]) for one in self.main]
        crossed = [(f"{one.first.short} by {one.second.short}", one.gains[quantity.key]) for one in self.interactions]
        return mains + crossed


def compare(table: Table) -> Effects:
    """Estimate main effects and interactions of all choices; none for a search, whose points are not designed."""
    factors = compared_factors(table.results, table.factors)
    cells = [tuple(factor.level(row.cell) for factor in factors) for row in table.rows]
    contrasts = [Contrast(axis, factor, level) for axis, factor in enumerate(factors) for level in factor.levels[1:]]
    crossed = [(one, other) for one, other in combinations(contrasts, 2) if one.axis != other.axis]
    groups = [_groups(cells, test) for test in ((one,) for one in contrasts)]
    groups += [_groups(cells, pair) for pair in crossed]
    gains = [one for one in table.quantities if not one.is_cost]
    costs = [one for one in table.quantities if one.is_cost]
    arrays = {one.key: table.array(one) * one.scale for one in gains}
    runs = _run_array(table.rows)
    family = {key: _family(values, runs, groups) for key, values in arrays.items()}  # one test per contrast and pair
    tests = [{key: estimates[i] for key, estimates in family.items()} for i in range(len(groups))]
    return Effects(
        gains,
        costs,
        [MainEffect(one, tests[i], _ratios(table, groups[i], costs)) for i, one in enumerate(contrasts)],
        [
            Interaction(*pair, tests[i], _sides(arrays, groups[i], tests[i]))
            for i, pair in enumerate(crossed, start=len(contrasts))
        ],
    )


def compared_factors(results: Results, factors: list[Factor]) -> list[Factor]:
    """Return the factors whose effects can be told apart; else one whose levels are the cells, as for a plain list."""
    if results.kind == "search" or len(results.cells) < 2:
        return []
    untied = _untied(results, factors)
    cells = {tuple(factor.level(cell) for factor in untied) for cell in results.cells}
    is_product = prod(len(factor.levels) for factor in untied) == len(cells) == len(results.cells)
    is_grid = results.kind == "grid"
    if (is_product and (is_grid or len(untied) > 1)) or (is_grid and _are_separable(cells)):
        return untied
    return [Factor((), "", tuple(cell.name for cell in results.cells))]


def _untied(results: Results, factors: list[Factor]) -> list[Factor]:
    """Return the factors, with those that always change together as one."""
    tied: dict[tuple[int, ...], list[Factor]] = {}
    for factor in factors:
        tied.setdefault(tuple(factor.levels.index(factor.level(cell)) for cell in results.cells), []).append(factor)
    return [_join(group, results) for group in tied.values()]


def _join(group: list[Factor], results: Results) -> Factor:
    flags = tuple(flag for factor in group for flag in factor.flags)
    joined = Factor(flags, ", ".join(factor.header for factor in group), ())
    return replace(joined, levels=tuple(dict.fromkeys(joined.level(cell) for cell in results.cells)))


def _are_separable(cells: set[_Levels]) -> bool:
    """Return whether for each factor some two cells differ in it alone."""
    axes = range(len(next(iter(cells))))
    return all(len({(*cell[:axis], *cell[axis + 1 :]) for cell in cells}) < len(cells) for axis in axes)


def _groups(cells: Sequence[_Levels], contrasts: Sequence[Contrast]) -> Groups:
    """Return the cells that belong together, `(groups, 2 or 4)`: each with the level, then with the base."""
    index = {cell: i for i, cell in enumerate(cells)}
    groups = []
    for cell in cells:
        if all(cell[one.axis] == one.level for one in contrasts):
            group = [cell]
            for one in contrasts:
                group += [(*other[: one.axis], one.base, *other[one.axis + 1 :]) for other in group]
            if all(other in index for other in group):
                groups.append([index[other] for other in group])
    return np.array(groups, dtype=int).reshape(-1, 2 ** len(contrasts))


def _run_array(rows: Iterable[Row]) -> Array:
    """Return 0 for each planned run, done or not, and NaN elsewhere `(cells, seeds)`."""
    seeds = [{run.seed for run in row.cell.runs} for row in rows]
    every = sorted(set().union(*seeds))
    planned = [[0.0 if seed in own else np.nan for seed in every] for own in seeds]
    return np.array(planned).reshape(len(seeds), len(every))


def _family(values: Array, runs: Array, groups: Sequence[Groups]) -> list[Estimate]:
    """Return all tests of one quantity, corrected for their number."""
    variances = cell_variances(values)
    planned = (int(np.isfinite(differences(runs, own)).sum()) for own in groups)
    return corrected([estimate(values, own, count, variances) for own, count in zip(groups, planned, strict=True)])


def _sides(arrays: dict[str, Array], groups: Groups, tests: dict[str, Estimate]) -> dict[str, tuple[float, float]]:
    """Return both sides of a significant interaction, over the same complete quadruples."""
    sides = {}
    for key, values in arrays.items():
        if tests[key].is_significant:
            at_level, at_base = differences(values, groups[:, :2]), differences(values, groups[:, 2:])
            incomplete = np.isnan(at_level + at_base)
            at_level[incomplete] = at_base[incomplete] = np.nan
            sides[key] = (float(seed_means(at_base).mean()), float(seed_means(at_level).mean()))
    return sides


def _ratios(table: Table, groups: Groups, costs: Sequence[Quantity]) -> dict[str, Ratio]:
    """Return the ratios of one contrast that are known, by key of the cost."""
    ratios = {}
    for cost in costs:
        change = estimate(_log(table.array(cost)), groups)
        if change.mean is not None:
            low, high = _quartile_range(table, groups, cost) if cost.is_inference else _seed_range(cost, change)
            ratios[cost.key] = Ratio(exp(change.mean), low, high)
    return ratios


def _seed_range(cost: Quantity, change: Estimate) -> tuple[float | None, float | None]:
    """Return the interval; the ratio itself where all seeds agree; nothing where one seed can't show the noise."""
    if change.low is not None and change.high is not None:
        return exp(change.low), exp(change.high)
    if change.mean is None or (cost.is_measured and change.seeds < 2):
        return None, None
    return exp(change.mean), exp(change.mean)


def _quartile_range(table: Table, groups: Groups, speed: Quantity) -> tuple[float | None, float | None]:
    """Return the ratio of the lower quartiles to the upper ones of the base, and the other way round."""
    spreads = [row.values.get(speed.key) for row in table.rows]
    quartiles = _log(np.array([s.quartiles if s and s.quartiles else (np.nan, np.nan) for s in spreads]))
    low, high = quartiles.T
    ends = (seed_means((one[groups[:, 0]] - other[groups[:, 1]])[:, None]) for one, other in ((low, high), (high, low)))
    least, most = (exp(end.mean()) if len(end) else None for end in ends)
    return least, most


def _log(values: Array) -> Array:
    return np.log(np.where(values > 0, values, np.nan))
