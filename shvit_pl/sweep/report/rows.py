"""One row per cell: what was chosen, and what came of it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from shvit_pl.designs.published import PaperRow, paper_row
from shvit_pl.sweep.report.factors import Factor
from shvit_pl.sweep.report.quantities import Quantity, cell_values, rounded
from shvit_pl.sweep.results import Cell, Results


@dataclass(frozen=True)
class Spread:
    """Mean over seeds, and their standard deviation; none of a single one."""

    mean: float
    sd: float | None

    def show(self, quantity: Quantity) -> str:
        """Mean ± standard deviation, to the mean's decimals; the mean alone where the seeds agree to them."""
        mean = quantity.show(self.mean)
        spread = rounded((self.sd or 0.0) * quantity.scale, len(mean.partition(".")[2]))
        return f"{mean} ± {spread}" if float(spread) else mean


@dataclass(frozen=True)
class Row:
    """A cell in numbers.

    Attributes:
        number: From 1, in the order of the sweep.
        cell: The cell.
        name: Short enough for a legend: the levels, or the name of a list's row.
        choices: Its levels by header, of the choices that vary.
        values: By key of the quantity, of the runs that are done.
        paper: The published counterpart.
    """

    number: int
    cell: Cell
    name: str
    choices: dict[str, str]
    values: dict[str, Spread]
    paper: PaperRow | None

    @property
    def done(self) -> int:
        """Runs that ended well."""
        return len(self.cell.done)

    @property
    def label(self) -> str:
        """Number and name."""
        return f"{self.number}: {self.name}"

    @property
    def runs(self) -> str:
        """How many are done, such as `2 of 3, 1 failed`."""
        counts = Counter(run.state for run in self.cell.runs)
        lost = [f"{counts[state]} {state}" for state in ("failed", "pruned") if counts[state]]
        return ", ".join([f"{self.done} of {len(self.cell.runs)}", *lost])

    def show(self, quantity: Quantity) -> str:
        """A quantity as text; empty where it is not known."""
        spread = self.values.get(quantity.key)
        return spread.show(quantity) if spread else ""


def rows(results: Results, varying: list[Factor], known: list[Quantity]) -> list[Row]:
    """One row per cell, in the order of the sweep, with the choices that vary and the quantities that are known."""
    found = []
    for number, cell in enumerate(results.cells, start=1):
        choices = {factor.header: factor.level(cell) for factor in varying}
        name = cell.name if results.kind == "list" else " · ".join(choices.values()) or cell.name
        values = {one.key: spread(by_seed) for one in known if (by_seed := cell_values(results, cell, one))}
        found.append(Row(number, cell, name, choices, values, _paper_row(cell)))
    return found


def spread(by_seed: dict[int, float]) -> Spread:
    """Mean and standard deviation of at least one value."""
    values = np.array(list(by_seed.values()))
    return Spread(float(values.mean()), float(values.std(ddof=1)) if len(values) > 1 else None)


def _paper_row(cell: Cell) -> PaperRow | None:
    summary = next((run.summary for run in cell.done if run.summary), None)
    return paper_row(summary) if summary else None
