"""What a level costs: how many times, and whether that is beyond the noise."""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, log

import numpy as np
from numpy.typing import NDArray

from shvit_pl.sweep.report.contrasts import Contrast, tabulated
from shvit_pl.sweep.report.factors import Factor
from shvit_pl.sweep.report.paired import Table, over_seeds
from shvit_pl.sweep.report.quantities import Quantity, cell_quartiles, cell_values
from shvit_pl.sweep.results import Results

_SAME = 0.005  # of a ratio that is written 1.00


@dataclass(frozen=True)
class Ratio:
    """How many times a cost: the geometric mean over all pairs.

    Attributes:
        mean: The ratio.
        low: The least over seeds; of what is measured once, the least that the quartiles of both sides allow; `None`
            where neither is known.
        high: The largest.
    """

    mean: float
    low: float | None = None
    high: float | None = None

    @property
    def is_seen(self) -> bool:
        """Whether all of its range is on one side of 1."""
        return self.low is not None and self.high is not None and not self.low <= 1 <= self.high

    @property
    def is_same(self) -> bool:
        """Whether it is 1, always, to the digits that are shown."""
        return all(value is not None and abs(value - 1) <= _SAME for value in (self.mean, self.low, self.high))


def ratios(
    results: Results, factors: list[Factor], costs: list[Quantity], contrasts: list[Contrast]
) -> list[dict[str, Ratio]]:
    """For each contrast the ratios that are known, by key of the cost."""
    found: list[dict[str, Ratio]] = [{} for _ in contrasts]
    for of in costs:
        table = tabulated(results, factors, (_logs(cell_values(results, cell, of)) for cell in results.cells))
        quartiles = [_logs(cell_quartiles(results, cell, of)) for cell in results.cells]
        ends = [tabulated(results, factors, [_end(each, end) for each in quartiles]) for end in (0, 1)]
        for own, contrast in zip(found, contrasts, strict=True):
            pairs = over_seeds(contrast.of(table))
            if len(pairs):
                low, high = _by_quartiles(contrast, *ends) if of.is_inference else _by_seeds(of, pairs)
                own[of.key] = Ratio(exp(pairs.mean()), low, high)
    return found


def _by_seeds(of: Quantity, logs: NDArray[np.float64]) -> tuple[float | None, float | None]:
    """The range over seeds, of which a single one tells no noise where there can be some."""
    if of.is_measured and len(logs) < 2:
        return None, None
    return exp(logs.min()), exp(logs.max())


def _by_quartiles(contrast: Contrast, lower: Table, upper: Table) -> tuple[float | None, float | None]:
    """From the lower quartiles over the upper ones of the base, to the upper over the lower."""
    ends = [over_seeds(contrast.of(_sides(contrast, *pair))) for pair in ((lower, upper), (upper, lower))]
    least, most = (exp(end.mean()) if len(end) else None for end in ends)
    return least, most


def _sides(contrast: Contrast, level: Table, base: Table) -> Table:
    """One table for the level, the other for its base."""
    return {key: (base if key[contrast.axis] == contrast.base else level)[key] for key in level}


def _logs(values: dict[int, float]) -> dict[int, float]:
    return {key: log(value) for key, value in values.items() if value > 0}


def _end(quartiles: dict[int, float], end: int) -> dict[int, float]:
    return {0: quartiles[end]} if end in quartiles else {}
