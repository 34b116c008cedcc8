"""Differences between cells, paired over seeds: their mean, 95 % interval and p.

Values are arrays `(cells, seeds)`, with NaN where a run is missing; only complete pairs count. A group is the cells
that one difference is made of: `(level, base)`, or four of an interaction, see `GROUP_SIGNS`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student
from scipy.stats import ttest_1samp

GROUP_SIGNS = {2: (1, -1), 4: (1, -1, -1, 1)}
_CONFIDENCE = 0.95
_SAME = 0.005  # of a ratio that is shown as 1.00
Array = NDArray[np.float64]
Groups = NDArray[np.int_]


@dataclass(frozen=True)
class Estimate:
    """A mean difference over seeds."""

    mean: float | None
    """`None` without a complete pair."""
    low: float | None = None
    """Lower end of the 95 % interval; `None` for a single seed, or seeds that agree exactly."""
    high: float | None = None
    """Upper end of the interval."""
    p: float | None = None
    """p of no difference, by a t-test over seeds."""
    p_corrected: float | None = None
    """p after Holm's correction for all tests of one quantity."""
    tests: int = 0
    """Number of these tests."""
    seeds: int = 0
    """Number of seeds that have a pair."""
    pairs: int = 0
    """Number of pairs of runs (quadruples for an interaction) that were used."""
    planned: int = 0
    """Number of pairs that the whole sweep has."""

    @property
    def is_significant(self) -> bool:
        """P below 0.05 after correction."""
        return self.p_corrected is not None and self.p_corrected < 1 - _CONFIDENCE


@dataclass(frozen=True)
class Ratio:
    """A ratio of costs: the geometric mean over all pairs."""

    mean: float
    low: float | None = None
    """Lower end of the 95 % interval over seeds; of what is measured once, the least that the quartiles of both sides
    allow; `None` where neither is known."""
    high: float | None = None
    """Upper end of the interval."""

    @property
    def places(self) -> int:
        """Decimals that are shown."""
        return 1 if self.mean >= 1.995 else 2

    @property
    def is_significant(self) -> bool:
        """The whole interval, as shown, is on one side of 1."""
        if self.low is None or self.high is None:
            return False
        return not round(self.low, self.places) <= 1 <= round(self.high, self.places)

    @property
    def is_same(self) -> bool:
        """The whole interval is 1 to the digits that are shown."""
        return all(value is not None and abs(value - 1) <= _SAME for value in (self.mean, self.low, self.high))


def differences(values: Array, groups: Groups) -> Array:
    """Return the signed sum of each group of cells for each seed, `(groups, seeds)`."""
    signs = np.array(GROUP_SIGNS[groups.shape[1]])
    return (values[groups] * signs[:, None]).sum(axis=1)  # (groups, k, seeds) -> (groups, seeds)


def seed_means(differences: Array) -> Array:
    """Return the mean over groups, of each seed that has any."""
    known = np.isfinite(differences).any(axis=0)
    return np.nanmean(differences[:, known], axis=0) if known.any() else np.empty(0)


def cell_variances(values: Array) -> Array | None:
    """Return each cell's variance over seeds `(cells,)`; `None` where a run is missing, or nothing varies.

    What a seed brings to all cells is taken out. Of k cells, a residual then has `(1 - 2 / k)` of its cell's variance
    and `1 / k` of the mean variance, which is corrected for.
    """
    cells, seeds = values.shape
    if cells < 3 or seeds < 2 or not np.isfinite(values).all():
        return None
    residuals = values - values.mean(axis=0) - values.mean(axis=1, keepdims=True) + values.mean()
    if np.abs(residuals).max() <= 1e-9 * np.abs(values).max():
        return None
    raw = (residuals**2).sum(axis=1) / (seeds - 1)
    return np.maximum((raw - raw.mean() / (cells - 1)) / (1 - 2 / cells), 0.0)


def estimate(values: Array, groups: Groups, planned: int = 0, variances: Array | None = None) -> Estimate:
    """Estimate mean, interval and p over the seeds, which are what is drawn at random.

    Args:
        values: `(cells, seeds)`.
        groups: Cells of each difference, `(groups, 2)` or `(groups, 4)`.
        planned: Number of pairs that the whole sweep has.
        variances: Variance of each cell, where known; else the differences alone show their noise, which takes more
            seeds.
    """
    paired = differences(values, groups)
    means = seed_means(paired)
    if not len(means):
        return Estimate(None, planned=planned)
    mean = float(means.mean())
    known = Estimate(mean, seeds=len(means), pairs=int(np.isfinite(paired).sum()), planned=planned)
    if len(means) < 2 or np.ptp(means) <= 1e-9 * np.abs(means).max():
        return known
    parts = variances[groups].ravel() / len(groups) ** 2 / len(means) if variances is not None else np.zeros(1)
    if parts.sum() > 0:
        freedom = parts.sum() ** 2 / (parts**2 / (len(means) - 1)).sum()  # Welch and Satterthwaite
        error = parts.sum() ** 0.5
        low, high = student.interval(_CONFIDENCE, freedom, loc=mean, scale=error)
        return replace(known, low=float(low), high=float(high), p=2 * float(student.sf(abs(mean) / error, freedom)))
    test = ttest_1samp(means, 0.0)
    low, high = test.confidence_interval(_CONFIDENCE)
    return replace(known, low=float(low), high=float(high), p=float(test.pvalue))


def corrected(estimates: Sequence[Estimate]) -> list[Estimate]:
    """Correct the p of all estimates that have one (Holm 1979)."""
    tested = sorted((i for i, one in enumerate(estimates) if one.p is not None), key=lambda i: estimates[i].p or 0.0)
    result, least = list(estimates), 0.0
    for rank, i in enumerate(tested):
        least = min(1.0, max(least, (estimates[i].p or 0.0) * (len(tested) - rank)))
        result[i] = replace(estimates[i], p_corrected=least, tests=len(tested))
    return result
