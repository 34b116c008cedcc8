"""What each choice brings and costs, and whether one depends on another.

Gains (accuracies and other noisy objectives) are differences with an interval and a p over seeds. Costs are ratios
with an interval.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

from shvit_pl.sweep.report.factors import Contrast, compared, tabulated
from shvit_pl.sweep.report.paired import Estimate, Table, at, corrected, estimate, noise, over_seeds
from shvit_pl.sweep.report.quantities import Quantity, cell_values
from shvit_pl.sweep.report.ratios import Ratio, ratios
from shvit_pl.sweep.results import Results


@dataclass(frozen=True)
class MainEffect:
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
    main: tuple[MainEffect, ...]
    interactions: tuple[Interaction, ...]


def effects(results: Results, known: list[Quantity]) -> Effects:
    """Main effects and interactions of all choices; none for a search, whose points are not drawn by design."""
    factors = compared(results)
    gains, costs = [one for one in known if not one.is_cost], [one for one in known if one.is_cost]
    mains = [Contrast(axis, factor, level) for axis, factor in enumerate(factors) for level in factor.levels[1:]]
    crossed = [(one, other) for one, other in combinations(mains, 2) if one.axis != other.axis]
    plan = tabulated(results, factors, ({run.seed: 0.0 for run in cell.runs} for cell in results.cells))
    tables = {one.key: tabulated(results, factors, _shown_values(results, one)) for one in gains}
    times = ratios(results, factors, costs, mains)
    found = {one.key: _estimates(tables[one.key], plan, mains, crossed) for one in gains}
    return Effects(
        gains=tuple(gains),
        costs=tuple(costs),
        main=tuple(
            MainEffect(contrast, {key: each[i] for key, each in found.items()}, times[i])
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


def _shown_values(results: Results, of: Quantity) -> list[dict[int, float]]:
    """Of each cell by seed."""
    every = (cell_values(results, cell, of) for cell in results.cells)
    return [{seed: value * of.scale for seed, value in values.items()} for values in every]


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
