"""Gains and costs of each choice, and the interactions of two.

Gains (accuracies and other objectives) are differences that are paired over seeds, with a 95 % interval and p; costs
are ratios. Values are arrays `(cells, runs)`, with NaN where a run is missing; only complete pairs count. Of folds, the
mean over seeds of each fold's differences is one value, and the variance is that of `shared_data`. A group is the
cells that one difference is made of: `(level, base)`, or four of an interaction, with the signs `_SIGNS`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from math import exp, floor, log10, prod

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from shvit_pl.display import counted
from shvit_pl.sweep.report.table import Factor, Quantity, Table, shared_data

_SIGNS = {2: (1, -1), 4: (1, -1, -1, 1)}
_CONFIDENCE = 0.95
POWER = 0.8  # share of sweeps that would find a difference significant
MOST_SEEDS = 100  # more settle nothing that matters
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
    error: float = 0.0
    """Standard error of the mean."""
    freedom: float = 0.0
    """Degrees of freedom of the t-distribution."""
    p: float | None = None
    """p of no difference, by a t-test over seeds."""
    p_corrected: float | None = None
    """p after Holm's correction for all tests of one quantity."""
    tests: int = 0
    """Number of these tests."""
    seeds: int = 0
    """Number of seeds, or of folds, that have a pair."""
    pairs: int = 0
    """Number of pairs of runs (quadruples for an interaction) that were used."""
    planned: int = 0
    """Number of pairs that the whole sweep has."""
    folds: int = 0
    """Folds of the cross-validation; 0 where the values are those of seeds."""

    @property
    def over(self) -> str:
        """Number of seeds or folds in words."""
        return counted(self.seeds, "fold" if self.folds else "seed")

    @property
    def is_significant(self) -> bool:
        """P below 0.05 after correction."""
        return self.p_corrected is not None and self.p_corrected < 1 - _CONFIDENCE

    @property
    def largest(self) -> float:
        """Largest effect, either way, that the interval allows."""
        return max(abs(self.low or 0.0), abs(self.high or 0.0))

    @property
    def places(self) -> int:
        """Decimals that show the noise to one digit or two."""
        has_interval = self.low is not None and self.high is not None
        size = ((self.high or 0.0) - (self.low or 0.0)) / 2 if has_interval else abs(self.mean or 0.0)
        return max(1, -floor(log10(size))) if size else 1

    @property
    def signed(self) -> str:
        """The mean with its sign, to the digits that its noise allows."""
        return f"{self.mean or 0.0:+z.{self.places}f}"


@dataclass(frozen=True)
class Ratio:
    """A ratio of costs: the geometric mean over all pairs."""

    mean: float
    low: float | None = None
    """Lower end of the 95 % interval over seeds; of what is measured once, the least that the quartiles of both sides
    allow; `None` where neither is known."""
    high: float | None = None

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
    def is_one(self) -> bool:
        """All of it is shown as 1.00."""
        known = [self.mean, *(end for end in (self.low, self.high) if end is not None)]
        return len(known) == 3 and all(abs(value - 1) <= 0.005 for value in known)

    @property
    def times(self) -> str:
        """The mean as it is shown."""
        return f"{self.mean:.{self.places}f}"


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
        """Name such as `patch_size 16 instead of 4`."""
        return f"{self.factor.header} {self.level} instead of {self.base}".strip()


@dataclass(frozen=True)
class Effect:
    """A change by one contrast, averaged over all other choices; or an interaction of two.

    An interaction is how much the change by the first contrast differs between the levels of the second.
    """

    contrasts: tuple[Contrast, ...]
    gains: dict[str, Estimate] = field(default_factory=dict)
    """Differences by key of the quantity."""
    costs: dict[str, Ratio] = field(default_factory=dict)
    """Ratios by key of the quantity, where known; none for an interaction."""
    sides: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Changes by the first contrast at the base and at the level of the second, by key of each quantity in which an
    interaction is significant."""

    @property
    def is_main(self) -> bool:
        """True for a single choice, False for an interaction."""
        return len(self.contrasts) == 1

    @property
    def name(self) -> str:
        """Name such as `patch_size 16 instead of 4`, or `patch_size 16 by stages 4`."""
        if self.is_main:
            return self.contrasts[0].text
        return " by ".join(f"{contrast.factor.header} {contrast.level}".strip() for contrast in self.contrasts)


def compare(table: Table) -> list[Effect]:
    """Estimate main effects of all choices, then interactions; none for a search, whose points are not designed."""
    factors = _compared_factors(table)
    cells = list(zip(*(factor.by_cell for factor in factors), strict=True))
    seeds = [{run.unit for run in row.cell.runs} for row in table.rows]
    contrasts = [Contrast(axis, factor, level) for axis, factor in enumerate(factors) for level in factor.levels[1:]]
    crossed = [pair for pair in combinations(contrasts, 2) if pair[0].axis != pair[1].axis]
    effects = [*(Effect((contrast,)) for contrast in contrasts), *map(Effect, crossed)]
    groups = [_groups(cells, effect.contrasts) for effect in effects]
    planned = [sum(len(set.intersection(*(seeds[i] for i in row))) for row in group) for group in groups]
    for gain in table.gains:
        values = table.array(gain) * gain.step_scale
        folds = Folds(np.array([fold for _, fold in table.units(gain)]), table.results.folds)
        variances = cell_variances(folds.means(values))
        tests = [estimate(values, group, count, variances, folds) for group, count in zip(groups, planned, strict=True)]
        for effect, group, test in zip(effects, groups, corrected(tests), strict=True):
            effect.gains[gain.key] = test
            if test.is_significant and not effect.is_main:
                effect.sides[gain.key] = _sides(values, group)
    for cost in table.costs:
        for effect, group in zip(effects, groups, strict=True):
            if effect.is_main and (ratio := _ratio(table, group, cost)):
                effect.costs[cost.key] = ratio
    return effects


def _compared_factors(table: Table) -> list[Factor]:
    """Return the factors whose effects can be told apart; else one whose levels are the cells, as for a plain list."""
    kind, cells = table.results.kind, table.results.cells
    if kind == "search" or len(cells) < 2:
        return []
    tied: dict[tuple[int, ...], list[Factor]] = {}  # factors that always change together become one
    for factor in table.factors:
        tied.setdefault(tuple(map(factor.levels.index, factor.by_cell)), []).append(factor)
    factors = []
    for group in tied.values():
        levels = map(", ".join, zip(*(factor.by_cell for factor in group), strict=True))
        factors.append(Factor(", ".join(factor.header for factor in group), tuple(levels)))
    points = set(zip(*(factor.by_cell for factor in factors), strict=True))
    is_product = prod(len(factor.levels) for factor in factors) == len(points) == len(cells)
    # for each factor, some two cells differ in it alone
    are_separable = all(len({(*p[:i], *p[i + 1 :]) for p in points}) < len(points) for i in range(len(factors)))
    if (is_product and len(factors) > 1) or (kind == "grid" and (is_product or are_separable)):
        return factors
    return [Factor("", tuple(cell.name for cell in cells))]


def _groups(cells: Sequence[tuple[str, ...]], contrasts: Sequence[Contrast]) -> Groups:
    """Return the cells that belong together, `(groups, 2 or 4)`: each with the level, then with the base."""
    index = {cell: i for i, cell in enumerate(cells)}
    groups = []
    for cell in cells:
        if all(cell[contrast.axis] == contrast.level for contrast in contrasts):
            group = [cell]
            for contrast in contrasts:
                group += [(*other[: contrast.axis], contrast.base, *other[contrast.axis + 1 :]) for other in group]
            if all(other in index for other in group):
                groups.append([index[other] for other in group])
    return np.array(groups, dtype=int).reshape(-1, 2 ** len(contrasts))


def _sides(values: Array, groups: Groups) -> tuple[float, float]:
    """Return the change by the first contrast at the base and at the level of the second, over complete quadruples."""
    at_level, at_base = _differences(values, groups[:, :2]), _differences(values, groups[:, 2:])
    complete = np.where(np.isnan(at_level + at_base), np.nan, 1.0)
    return float(_seed_means(at_base * complete).mean()), float(_seed_means(at_level * complete).mean())


def _ratio(table: Table, groups: Groups, cost: Quantity) -> Ratio | None:
    """Return the ratio of a cost with its interval; the ratio itself as the interval where all seeds agree."""
    change = estimate(_log(table.array(cost)), groups)
    if change.mean is None:
        return None
    low, high = change.low, change.high
    if cost.is_inference:  # from the lower quartiles over the base's upper ones to the reverse
        spreads = [row.values.get(cost.key) for row in table.rows]
        quartiles = _log(np.array([(spread and spread.quartiles) or (np.nan, np.nan) for spread in spreads]))
        ends = [_seed_means(quartiles[groups[:, :1], i] - quartiles[groups[:, 1:], 1 - i]) for i in (0, 1)]
        low, high = (float(end[0]) if len(end) else None for end in ends)
    elif low is None and (change.seeds > 1 or not cost.is_measured):
        low = high = change.mean
    return Ratio(exp(change.mean), None if low is None else exp(low), None if high is None else exp(high))


def _log(values: Array) -> Array:
    return np.log(np.where(values > 0, values, np.nan))


@dataclass(frozen=True)
class Folds:
    """Folds of a cross-validation."""

    by_run: Groups
    """The fold of each run `(runs,)`."""
    count: int
    """Their number; 0 for none."""

    def means(self, values: Array) -> Array:
        """Return the means over seeds `(..., folds)` of values `(..., runs)`; without folds, the values."""
        if not self.count:
            return values
        return np.stack([values[..., self.by_run == fold].mean(axis=-1) for fold in np.unique(self.by_run)], axis=-1)


_NO_FOLDS = Folds(np.empty(0, dtype=int), 0)


def estimate(
    values: Array, groups: Groups, planned: int = 0, variances: Array | None = None, folds: Folds = _NO_FOLDS
) -> Estimate:
    """Estimate mean, interval and p over the seeds, or the folds, which are what is drawn at random.

    Args:
        values: `(cells, runs)`.
        groups: Cells of each difference, `(groups, 2)` or `(groups, 4)`.
        planned: Number of pairs that the whole sweep has.
        variances: Variance of each cell, where known; else the differences alone show their noise, which takes more
            seeds.
        folds: The fold of each run.
    """
    paired = _differences(values, groups)
    means, added = _seed_means(paired), 0.0
    if not len(means):
        return Estimate(None, planned=planned)
    if folds.count:
        means = replace(folds, by_run=folds.by_run[np.isfinite(paired).any(axis=0)]).means(means)
        added = shared_data(folds.count)
    mean, pairs = float(means.mean()), int(np.isfinite(paired).sum())
    known = Estimate(mean, seeds=len(means), pairs=pairs, planned=planned, folds=folds.count)
    if len(means) < 2 or np.ptp(means) <= 1e-9 * np.abs(means).max():
        return known
    freedom, factor = len(means) - 1, 1 / len(means) + added
    error = float(means.std(ddof=1)) * factor**0.5
    parts = variances[groups].ravel() / len(groups) ** 2 * factor if variances is not None else np.zeros(1)
    if parts.sum() > 0:
        freedom = parts.sum() ** 2 / (parts**2 / freedom).sum()  # Welch and Satterthwaite
        error = parts.sum() ** 0.5
    low, high = stats.t.interval(_CONFIDENCE, freedom, loc=mean, scale=error)
    p = 2 * float(stats.t.sf(abs(mean) / error, freedom))
    return replace(known, low=float(low), high=float(high), error=float(error), freedom=float(freedom), p=p)


def seeds_to_settle(estimate: Estimate, tests: int = 1) -> int | None:
    """Return the fewest seeds that find a difference significant with a probability of `POWER`.

    The true difference and noise are taken to be as estimated, and `tests` that are not significant yet to share the
    allowed error (as in the first step of Holm's correction). None without an interval, for more than `MOST_SEEDS`, and
    for folds: other seeds bring no other images.
    """
    if estimate.mean is None or estimate.low is None or estimate.folds:
        return None
    seeds = np.arange(estimate.seeds + 1, MOST_SEEDS + 1)
    freedom = estimate.freedom * (seeds - 1) / (estimate.seeds - 1)
    shift = abs(estimate.mean) / estimate.error * (seeds / estimate.seeds) ** 0.5
    bar = stats.t.isf((1 - _CONFIDENCE) / tests / 2, freedom)
    enough = stats.nct.sf(bar, freedom, shift) >= POWER  # the other tail is negligible
    return int(seeds[enough.argmax()]) if enough.any() else None


def cell_variances(values: Array) -> Array | None:
    """Return each cell's variance over seeds `(cells,)`; `None` where a run is missing, or nothing varies.

    What a seed brings to all cells is taken out. Of k cells, a residual then has `(1 - 2 / k)` of its cell's variance
    and `1 / k` of the mean variance, which is corrected for.
    """
    cells, seeds = values.shape  # or folds
    if cells < 3 or seeds < 2 or not np.isfinite(values).all():
        return None
    residuals = values - values.mean(axis=0) - values.mean(axis=1, keepdims=True) + values.mean()
    if np.abs(residuals).max() <= 1e-9 * np.abs(values).max():
        return None
    raw = (residuals**2).sum(axis=1) / (seeds - 1)
    return np.maximum((raw - raw.mean() / (cells - 1)) / (1 - 2 / cells), 0.0)


def corrected(estimates: Sequence[Estimate]) -> list[Estimate]:
    """Correct the p of all estimates that have one (Holm 1979)."""
    tested = sorted((i for i, each in enumerate(estimates) if each.p is not None), key=lambda i: estimates[i].p or 0.0)
    result, least = list(estimates), 0.0
    for rank, i in enumerate(tested):
        least = min(1.0, max(least, (estimates[i].p or 0.0) * (len(tested) - rank)))
        result[i] = replace(estimates[i], p_corrected=least, tests=len(tested))
    return result


def _differences(values: Array, groups: Groups) -> Array:
    """Return the signed sum of each group of cells for each seed, `(groups, seeds)`."""
    signs = np.array(_SIGNS[groups.shape[1]])
    return (values[groups] * signs[:, None]).sum(axis=1)  # (groups, k, seeds) -> (groups, seeds)


def _seed_means(differences: Array) -> Array:
    """Return the mean over groups, of each seed that has any."""
    known = np.isfinite(differences).any(axis=0)
    return np.nanmean(differences[:, known], axis=0) if known.any() else np.empty(0)
