"""What a level costs: how many times, and whether that is beyond the noise."""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, log

from shvit_pl.sweep.report.factors import Contrast, Factor, tabulated
from shvit_pl.sweep.report.paired import Estimate, Table, estimate, over_seeds
from shvit_pl.sweep.report.quantities import Quantity, cell_quartiles, cell_values
from shvit_pl.sweep.results import Results

_SAME = 0.005  # of a ratio that is written 1.00


@dataclass(frozen=True)
class Ratio:
    """How many times a cost: the geometric mean over all pairs.

    Attributes:
        mean: The ratio.
        low: Lower end of the 95 % interval over seeds; of what is measured once, the least that the quartiles of both
            sides allow; `None` where neither is known.
        high: Upper end.
    """

    mean: float
    low: float | None = None
    high: float | None = None

    @property
    def places(self) -> int:
        """Decimals that it is shown with."""
        return 1 if self.mean >= 1.995 else 2

    @property
    def is_seen(self) -> bool:
        """Whether it is beyond the noise: all of its interval, as shown, is on one side of 1."""
        if self.low is None or self.high is None:
            return False
        return not round(self.low, self.places) <= 1 <= round(self.high, self.places)

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
            each = estimate(contrast.of(table), planned=0)
            if each.mean is not None:
                low, high = _by_quartiles(contrast, *ends) if of.is_inference else _by_seeds(of, each)
                own[of.key] = Ratio(exp(each.mean), low, high)
    return found


def _by_seeds(of: Quantity, each: Estimate) -> tuple[float | None, float | None]:
    """The interval; the ratio itself where all seeds agree; nothing where one seed could not tell the noise."""
    if each.low is not None and each.high is not None:
        return exp(each.low), exp(each.high)
    if each.mean is None or (of.is_measured and each.seeds < 2):
        return None, None
    return exp(each.mean), exp(each.mean)


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
