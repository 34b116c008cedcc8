"""Differences between cells, paired over seeds, and how sure they are.

A table holds a number per combination of levels and seed. Cells and seeds that are missing are simply not in it, and
only complete pairs count.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student
from scipy.stats import ttest_1samp

Table = dict[tuple[str, ...], dict[int, float]]

CONFIDENCE = 0.95
_PAIRED = "*"  # the level of a combination that is a difference of two


@dataclass(frozen=True)
class Estimate:
    """A mean difference over seeds.

    Attributes:
        mean: `None` without a complete pair.
        low: Lower end of the 95 % interval; `None` where seeds can't tell: a single one, or all exactly alike.
        high: Upper end.
        p: Of no difference, by a t-test over seeds.
        p_corrected: The same after Holm's correction for all tests of one quantity.
        tests: How many these were.
        seeds: How many seeds have a pair.
        pairs: How many pairs of runs (quadruples, of an interaction) were used.
        planned: How many pairs the whole sweep has.
    """

    mean: float | None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    p_corrected: float | None = None
    tests: int = 0
    seeds: int = 0
    pairs: int = 0
    planned: int = 0

    @property
    def is_seen(self) -> bool:
        """Whether the difference is beyond the noise."""
        return self.p_corrected is not None and self.p_corrected < 1 - CONFIDENCE


Noise = dict[tuple[str, ...], float]  # by combination: the variance of a run, beside what its seed brings to all cells


def noise(table: Table) -> Noise | None:
    """The noise of every cell, which may differ; `None` where a run is missing, or two cells leave nothing to compare.

    What a seed brings to all cells is taken out, and what this adds to and takes from each cell's own variance is
    corrected: of k cells, a residual has `(1 - 2 / k)` of its cell's variance and `1 / k` of the mean variance.
    """
    seeds = {tuple(sorted(values)) for values in table.values()}
    if len(seeds) != 1 or len(table) < 3 or len(next(iter(seeds))) < 2:
        return None
    runs = np.array([[values[seed] for seed in sorted(values)] for values in table.values()])
    rest = runs - runs.mean(axis=0) - runs.mean(axis=1, keepdims=True) + runs.mean()
    if np.abs(rest).max() <= 1e-9 * np.abs(runs).max():
        return None
    cells = len(runs)
    seen = (rest**2).sum(axis=1) / (runs.shape[1] - 1)
    own = (seen - seen.mean() / (cells - 1)) / (1 - 2 / cells)
    return dict(zip(table, np.maximum(own, 0.0).tolist(), strict=True))


def difference(table: Table, axis: int, base: str, level: str) -> Table:
    """`level` minus `base` in one axis, for every seed and combination of the other axes that has both."""
    pairs: Table = {}
    for combination, values in table.items():
        if combination[axis] == level:
            other = table.get(at(combination, axis, base), {})
            both = {seed: value - other[seed] for seed, value in values.items() if seed in other}
            if both:
                pairs[at(combination, axis, _PAIRED)] = both
    return pairs


def at(combination: tuple[str, ...], axis: int, level: str) -> tuple[str, ...]:
    """The combination with another level in one axis."""
    return (*combination[:axis], level, *combination[axis + 1 :])


def over_seeds(table: Table) -> NDArray[np.float64]:
    """The mean over combinations for each seed `(seeds,)`."""
    seeds = sorted({seed for values in table.values() for seed in values})
    return np.array([np.mean([values[seed] for values in table.values() if seed in values]) for seed in seeds])


def estimate(differences: Table, planned: int, variances: Sequence[float] = ()) -> Estimate:
    """Mean, interval and p over the seeds, which are what is drawn at random.

    Args:
        differences: By seed and combination.
        planned: How many the whole sweep has.
        variances: Of a run in each of the cells that the differences are of, where they are known; else the differences
            alone tell their noise, which takes more seeds.
    """
    values = over_seeds(differences)
    if not len(values):
        return Estimate(None, planned=planned)
    pairs = sum(map(len, differences.values()))
    known = Estimate(float(values.mean()), seeds=len(values), pairs=pairs, planned=planned)
    if len(values) < 2 or np.ptp(values) <= 1e-9 * np.abs(values).max():
        return known
    parts = np.array(variances) / len(differences) ** 2 / len(values)
    if parts.sum() > 0:
        freedom = float(parts.sum() ** 2 / (parts**2 / (len(values) - 1)).sum())  # Welch and Satterthwaite
        error = float(parts.sum()) ** 0.5
        half = float(student.ppf((1 + CONFIDENCE) / 2, freedom)) * error
        p = 2 * float(student.sf(abs(float(values.mean())) / error, freedom))
        return replace(known, low=float(values.mean()) - half, high=float(values.mean()) + half, p=p)
    test = ttest_1samp(values, 0.0)
    low, high = test.confidence_interval(CONFIDENCE)
    return replace(known, low=float(low), high=float(high), p=float(test.pvalue))


def corrected(estimates: Sequence[Estimate]) -> list[Estimate]:
    """The same with Holm's correction (Holm 1979) for all of them that are tests."""
    tested = [index for index, one in enumerate(estimates) if one.p is not None]
    raw = np.array([estimates[index].p for index in tested], dtype=float)
    order = np.argsort(raw)
    stepped = np.maximum.accumulate(raw[order] * (len(raw) - np.arange(len(raw)))).clip(max=1.0)
    found = list(estimates)
    for index, p in zip(np.array(tested, dtype=int)[order], stepped, strict=True):
        found[index] = replace(found[index], p_corrected=float(p), tests=len(raw))
    return found
