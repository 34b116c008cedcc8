"""The rows of the study: one for each network and kind of operation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from shvit_pl.analysis.outcome import rounded
from shvit_pl.analysis.runtime.kinds import ALL_BUT_PRODUCTS, KINDS, MEMORY_BOUND
from shvit_pl.analysis.runtime.paper import PaperBar
from shvit_pl.analysis.runtime.shares import Shares


@dataclass(frozen=True)
class Measured:
    """A network, and the paper's figure of its attention.

    Attributes:
        name: As it was given.
        shares: What was found.
        paper: `None` where the paper has none.
    """

    name: str
    shares: Shares
    paper: PaperBar | None

    @property
    def percent(self) -> dict[str, float]:
        """By kind, and the sum of all but matrix products."""
        percent: dict[str, float] = dict(self.shares.percent.items())
        return percent | {ALL_BUT_PRODUCTS: self.shares.memory_bound}

    @property
    def paper_percent(self) -> dict[str, float]:
        """Likewise; empty where the paper has none."""
        if self.paper is None:
            return {}
        percent: dict[str, float] = dict(self.paper.percent.items())
        return percent | {ALL_BUT_PRODUCTS: sum(percent.get(kind, 0.0) for kind in MEMORY_BOUND)}

    @property
    def difference(self) -> dict[str, float]:
        """In percentage points, of what the paper has."""
        return {name: self.percent[name] - percent for name, percent in self.paper_percent.items()}


def make_rows(every: Sequence[Measured]) -> list[dict[str, Any]]:
    """The rows of `runtime.csv`."""
    return [_row(each, kind) for each in every for kind in (*KINDS, ALL_BUT_PRODUCTS)]


def _row(each: Measured, kind: str) -> dict[str, Any]:
    low, high = each.shares.quartiles[kind]
    return {
        "network": each.name,
        "measured": each.shares.scope,
        "kind": kind,
        "percent": round(each.percent[kind], 3),
        "percent_q1": round(low, 3),
        "percent_q3": round(high, 3),
        "milliseconds": round(each.shares.milliseconds * each.percent[kind] / 100, 5),
        "paper": None if each.paper is None else f"{each.paper.attention}, {each.paper.network}",
        "paper_percent": rounded(each.paper_percent.get(kind), 3),
        "difference": rounded(each.difference.get(kind), 3),
    }
