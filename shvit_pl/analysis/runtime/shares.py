"""Shares of the time by kind of operation, from several passes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from shvit_pl.analysis.running import Ready, in_turns
from shvit_pl.analysis.runtime.kinds import ALL_BUT_PRODUCTS, KINDS, MEMORY_BOUND, Kind
from shvit_pl.analysis.runtime.parts import Part, attention_parts, described, marked
from shvit_pl.analysis.runtime.profiling import Times, operator_times
from shvit_pl.analysis.runtime.scope import Scope
from shvit_pl.analysis.unfused import unfused
from shvit_pl.deploy.timing import quartiles
from shvit_pl.errors import UserError

_UNKNOWN = "it has no attention that is known here; give --scope network."


@dataclass(frozen=True)
class Shares:
    """Where the time goes, in percent of all operators' in the scope.

    Attributes:
        scope: What was measured, in words.
        milliseconds: Of all these operators in a pass, the median.
        percent: By kind, as `scaled` makes them of the medians over the passes.
        quartiles: By kind, and of all but matrix products: where the middle half of the passes lies.
        operators: By operator and kind, over all passes.
    """

    scope: str
    milliseconds: float
    percent: dict[Kind, float]
    quartiles: dict[str, tuple[float, float]]
    operators: dict[tuple[str, Kind], float]

    @property
    def memory_bound(self) -> float:
        """All but matrix products."""
        return sum(self.percent[kind] for kind in MEMORY_BOUND)


def measure(networks: Sequence[Ready], scope: Scope, repeats: int) -> list[Shares]:
    """Profile passes of all networks in turns.

    Raises:
        UserError: for a network without attention, if that is what is to be measured.
    """
    words = [_described(network, scope) for network in networks]
    passes = in_turns(networks, repeats, lambda network: _profiled(network, scope))
    return [summed_up(found, word) for found, word in zip(passes, words, strict=True)]


def _profiled(network: Ready, scope: Scope) -> Times:
    with unfused(network.model.modules()), marked(_parts(network, scope)):
        times = operator_times(network)
    if not times:
        raise UserError(f"{network.opened.name!r}: {_UNKNOWN}")
    return times


def summed_up(passes: Sequence[Times], scope: str) -> Shares:
    """The shares of several passes.

    Args:
        passes: Microseconds by operator and kind.
        scope: What was measured, in words.
    """
    by_kind = np.array([[_total(times, kind) for kind in KINDS] for times in passes])
    percent = 100 * by_kind / by_kind.sum(axis=1, keepdims=True)
    columns = {**dict(zip(KINDS, percent.T, strict=True)), ALL_BUT_PRODUCTS: percent[:, 1:].sum(axis=1)}
    operators = _summed(passes)
    return Shares(
        scope,
        float(np.median(by_kind.sum(axis=1))) / 1000,
        dict(zip(KINDS, scaled(np.median(percent, axis=0)), strict=True)),
        {str(name): quartiles(column) for name, column in columns.items()},
        operators,
    )


def scaled(medians: np.ndarray) -> list[float]:
    """Medians with a sum of 100: that of matrix products stays, and with it the sum of the others, which are scaled."""
    products, others = float(medians[0]), medians[1:]
    return [products, *(others * (100 - products) / (others.sum() or 1)).tolist()]


def _described(network: Ready, scope: Scope) -> str:
    parts = _parts(network, scope)
    if not parts:
        raise UserError(f"{network.opened.name!r}: {_UNKNOWN}")
    return "the whole network" if scope == "network" else described(parts)


def _parts(network: Ready, scope: Scope) -> list[Part]:
    return [Part(network.model)] if scope == "network" else attention_parts(network.model)


def _summed(passes: Sequence[Times]) -> dict[tuple[str, Kind], float]:
    """Percent of each operator, the largest first."""
    keys = dict.fromkeys(key for times in passes for key in times)
    sums = {key: sum(times.get(key, 0.0) for times in passes) for key in keys}
    whole = sum(sums.values())
    return {key: 100 * sums[key] / whole for key in sorted(sums, key=lambda key: -sums[key])}


def _total(times: Times, kind: Kind) -> float:
    return sum(time for (_, each), time in times.items() if each == kind)
