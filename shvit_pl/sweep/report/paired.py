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


@dataclass(frozen=True)
class Noise:
    """What is left of a table without its cells' means and its seeds' means: a randomised block design's error.

    Attributes:
        variance: Of a single run.
        freedom: Degrees of freedom, `(cells - 1) * (seeds - 1)`.
    """

    variance: float
    freedom: int


def noise(table: Table) -> Noise | None:
    """The noise of all runs together; `None` where a run is missing, or nothing is left."""
    seeds = {tuple(sorted(values)) for values in table.values()}
    if len(seeds) != 1 or len(table) < 2 or len(next(iter(seeds))) < 2:
        return None
    runs = np.array([[values[seed] for seed in sorted(values)] for values in table.values()])
    rest = runs - runs.mean(axis=0) - runs.mean(axis=1, keepdims=True) + runs.mean()
    freedom = (runs.shape[0] - 1) * (runs.shape[1] - 1)
    if np.abs(rest).max() <= 1e-9 * np.abs(runs).max():
        return None
    return Noise(float((rest**2).sum() / freedom), freedom)


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


def estimate(differences: Table, planned: int, of: Noise | None = None, runs: int = 2) -> Estimate:
    """Mean, interval and p over the seeds, which are what is drawn at random.

    Args:
        differences: By seed and combination.
        planned: How many the whole sweep has.
        of: The noise of a run, where it is known of all cells together; else these differences tell their own, which
            takes more seeds.
        runs: How many runs a difference is of.
    """
    values = over_seeds(differences)
    if not len(values):
        return Estimate(None, planned=planned)
    pairs = sum(map(len, differences.values()))
    known = Estimate(float(values.mean()), seeds=len(values), pairs=pairs, planned=planned)
    if len(values) < 2 or np.ptp(values) <= 1e-9 * np.abs(values).max():
        return known
    if of is not None:
        error = (of.variance * runs / pairs) ** 0.5
        half = float(student.ppf((1 + CONFIDENCE) / 2, of.freedom)) * error
        p = 2 * float(student.sf(abs(known.mean or 0.0) / error, of.freedom))
        return replace(known, low=values.mean() - half, high=values.mean() + half, p=p)
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
