"""One level of a factor against another, and the tables that they are compared in."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from shvit_pl.sweep.report.factors import Factor
from shvit_pl.sweep.report.paired import Table, difference
from shvit_pl.sweep.results import Results


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


def tabulated(results: Results, factors: list[Factor], values: Iterable[dict[int, float]]) -> Table:
    """The values of all cells by seed, in the order of the sweep, by combination of levels."""
    combinations = (tuple(factor.level(cell) for factor in factors) for cell in results.cells)
    return dict(zip(combinations, values, strict=True))
