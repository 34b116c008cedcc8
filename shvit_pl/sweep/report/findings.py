"""All that a report says in numbers, worked out once."""

from __future__ import annotations

from dataclasses import dataclass

from shvit_pl.sweep.report.columns import Column, columns
from shvit_pl.sweep.report.conditions import conditions
from shvit_pl.sweep.report.effects import Effects, effects
from shvit_pl.sweep.report.factors import Factor, factors
from shvit_pl.sweep.report.histories import Curve, curves
from shvit_pl.sweep.report.plane import Plane, plane
from shvit_pl.sweep.report.quantities import Quantity, primary, quantities
from shvit_pl.sweep.report.rows import Row, rows
from shvit_pl.sweep.results import Results


@dataclass(frozen=True)
class Findings:
    """What a sweep has found.

    Attributes:
        results: Where it comes from.
        factors: The choices that vary.
        quantities: What is known of its cells.
        primary: What the report is about.
        rows: One per cell.
        columns: Of the table of rows.
        plane: The rows as dots.
        curves: The primary quantity over epochs.
        effects: What each choice brings and costs.
        conditions: How the numbers came about, by title.
    """

    results: Results
    factors: list[Factor]
    quantities: list[Quantity]
    primary: Quantity
    rows: list[Row]
    columns: list[Column]
    plane: Plane
    curves: list[Curve]
    effects: Effects
    conditions: dict[str, str]

    @property
    def names_title(self) -> str:
        """What the names of the rows hold, for the head of a legend."""
        return "" if self.results.kind == "list" else " · ".join(factor.header for factor in self.factors)


def findings_of(results: Results) -> Findings:
    """Work out a report's numbers."""
    varying, known, first = factors(results), quantities(results), primary(results)
    every = rows(results, varying, known)
    return Findings(
        results, varying, known, first, every,
        columns=columns(every, known, named=results.kind == "list"),
        plane=plane(results, every),
        curves=curves(every, first),
        effects=effects(results, known),
        conditions=conditions(results, every),
    )  # fmt: skip
