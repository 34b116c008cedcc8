"""The space of a search: the values of each flag, and its points, where they can be counted.

Optuna's samplers propose the same point again and again, and its `BruteForceSampler` takes 0.1 + 0.2 and 0.3 for two
values, so we count points ourselves.
"""

import warnings
from collections.abc import Collection, Mapping
from decimal import Decimal
from math import prod
from random import Random
from typing import Any

from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

Distribution = CategoricalDistribution | IntDistribution | FloatDistribution
PointKey = tuple[int, ...]
"""Position of each value among those of its flag: equal points have equal keys, however their numbers are rounded."""


def distribution(values: Any) -> Distribution:
    """Return Optuna's distribution of a list of choices or a range: whole numbers where both ends and the step are."""
    if isinstance(values, list):
        return CategoricalDistribution(values)
    whole = all(type(values.get(name, 1)) is int for name in ("low", "high", "step"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the last step may end below `high`
        return IntDistribution(**values) if whole else FloatDistribution(**values)


def whole_numbers(choices: Distribution) -> range:
    """Return the values of a range of whole numbers; an empty range for any other distribution."""
    if isinstance(choices, IntDistribution):
        return range(choices.low, choices.high + 1, choices.step)
    return range(0)


def count_points(space: Mapping[str, Any]) -> int | None:
    """Return the number of points of a space; None where a range has no steps."""
    counts = [_count(distribution(values)) for values in space.values()]
    return None if None in counts else prod(count or 0 for count in counts)


def point_key(space: Mapping[str, Any], point: Mapping[str, Any]) -> PointKey:
    """Return the key of a point of a countable space."""
    key = []
    for flag, values in space.items():
        choices = distribution(values)
        if isinstance(choices, CategoricalDistribution):
            key.append(int(choices.to_internal_repr(point[flag])))
        else:
            key.append(round((point[flag] - choices.low) / (choices.step or 1)))
    return tuple(key)


def draw_untried(space: Mapping[str, Any], tried: Collection[PointKey], seed: str) -> dict[str, Any]:
    """Draw a point of a countable space that is not among those that were tried; there must be one."""
    choices = {flag: distribution(values) for flag, values in space.items()}
    random = Random(seed)
    while True:
        key = tuple(random.randrange(_count(one) or 1) for one in choices.values())
        if key not in tried:
            return {flag: _value(one, index) for (flag, one), index in zip(choices.items(), key, strict=True)}


def _count(choices: Distribution) -> int | None:
    if isinstance(choices, CategoricalDistribution):
        return len(choices.choices)
    return None if choices.step is None else round((choices.high - choices.low) / choices.step) + 1


def _value(choices: Distribution, index: int) -> Any:
    """Return the value at a position; 0.3 as the third of 0.1, 0.2, ..., not 0.30000000000000004."""
    if isinstance(choices, CategoricalDistribution):
        return choices.choices[index]
    exact = Decimal(str(choices.low)) + index * Decimal(str(choices.step))
    return int(exact) if isinstance(choices, IntDistribution) else float(exact)
