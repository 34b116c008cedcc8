"""What the cells of a sweep differ in, and one level of it against another."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import prod

from shvit_pl.display.words import shown
from shvit_pl.sweep.plan.flags import short_names
from shvit_pl.sweep.report.paired import Table, difference
from shvit_pl.sweep.results import Cell, Results

DEFAULT = "default"  # the level of a cell that does not name a choice which others do


@dataclass(frozen=True)
class Factor:
    """A choice that varies.

    Attributes:
        flags: Of `fit`: one, or several that always change together; none where a factor is the whole cell.
        header: The shortest end of each flag that no other one has.
        levels: As text, in the order of the sweep; the first is what the others are compared with.
    """

    flags: tuple[str, ...]
    header: str
    levels: tuple[str, ...]

    def level(self, cell: Cell) -> str:
        """What the cell chose."""
        return ", ".join(level(cell, flag) for flag in self.flags) if self.flags else cell.name


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


def factors(results: Results) -> list[Factor]:
    """All choices that vary."""
    flags = list(dict.fromkeys(flag for cell in results.cells for flag in cell.choices))
    every = (Factor((flag,), header, _levels(results.cells, flag)) for flag, header in short_names(flags).items())
    return [factor for factor in every if len(factor.levels) > 1]


def constants(results: Results) -> dict[str, str]:
    """Flags that are given, but the same in all cells, and their values."""
    flags = dict.fromkeys(flag for cell in results.cells for flag in cell.choices)
    levels = {flag: _levels(results.cells, flag) for flag in flags}
    return {flag: only[0] for flag, only in levels.items() if len(only) == 1}


def compared(results: Results) -> list[Factor]:
    """The factors whose effects can be told apart; else one whose levels are the cells, as for a list of one."""
    if results.kind == "search" or len(results.cells) < 2:
        return []
    found = _untied(results)
    combinations = {tuple(factor.level(cell) for factor in found) for cell in results.cells}
    is_product = prod(len(factor.levels) for factor in found) == len(combinations) == len(results.cells)
    is_grid = results.kind == "grid"
    if (is_product and (is_grid or len(found) > 1)) or (is_grid and _are_separable(combinations)):
        return found
    return [Factor((), "", tuple(cell.name for cell in results.cells))]


def tabulated(results: Results, factors: list[Factor], values: Iterable[dict[int, float]]) -> Table:
    """The values of all cells by seed, in the order of the sweep, by combination of levels."""
    combinations = (tuple(factor.level(cell) for factor in factors) for cell in results.cells)
    return dict(zip(combinations, values, strict=True))


def _untied(results: Results) -> list[Factor]:
    """The factors, with those that always change together as one."""
    tied: dict[tuple[int, ...], list[Factor]] = {}
    for factor in factors(results):
        tied.setdefault(tuple(factor.levels.index(factor.level(cell)) for cell in results.cells), []).append(factor)
    return [_together(group, results) for group in tied.values()]


def _together(group: list[Factor], results: Results) -> Factor:
    flags = tuple(flag for factor in group for flag in factor.flags)
    joined = Factor(flags, ", ".join(factor.header for factor in group), ())
    return replace(joined, levels=tuple(dict.fromkeys(joined.level(cell) for cell in results.cells)))


def _are_separable(combinations: set[tuple[str, ...]]) -> bool:
    """Whether for each factor some two cells differ in it alone."""
    axes = range(len(next(iter(combinations))))
    others = ({(*one[:axis], *one[axis + 1 :]) for one in combinations} for axis in axes)
    return all(len(rest) < len(combinations) for rest in others)


def level(cell: Cell, flag: str) -> str:
    """A choice of a cell as text."""
    return shown(cell.choices[flag]) if flag in cell.choices else DEFAULT


def _levels(cells: Iterable[Cell], flag: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(level(cell, flag) for cell in cells))
