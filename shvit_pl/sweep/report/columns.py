"""The table of the cells: what its columns are, on the page as in the terminal and in Markdown."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from shvit_pl.sweep.report.quantities import Quantity
from shvit_pl.sweep.report.rows import Row

_PAPER = {
    "source": "paper", "top1": "paper: top-1 (%)", "params_m": "paper: parameters (M)",
    "gpu": "paper: GPU images/s", "cpu": "paper: CPU images/s", "onnx": "paper: ONNX images/s",
}  # fmt: skip


@dataclass(frozen=True)
class Column:
    """A column of the table.

    Attributes:
        header: Its head.
        kind: What it holds.
        text: What it shows of a row.
        value: The number that a row is sorted by; `None` where it is sorted by its text.
    """

    header: str
    kind: Literal["number", "name", "choice", "runs", "quantity", "paper"]
    text: Callable[[Row], str]
    value: Callable[[Row], float | None] | None = None


def columns(rows: list[Row], quantities: list[Quantity], named: bool) -> list[Column]:
    """The columns of the rows, with their names where these say more than their choices."""
    return [
        Column("no.", "number", lambda row: str(row.number), lambda row: row.number),
        *([Column("cell", "name", lambda row: row.name)] if named else []),
        *(_choice(header) for header in (rows[0].choices if rows else ())),
        Column("runs done", "runs", lambda row: row.runs, lambda row: row.done),
        *map(_quantity, quantities),
        *(_published(key, header) for key, header in _PAPER.items() if any(_paper(row, key) for row in rows)),
    ]


def _choice(header: str) -> Column:
    return Column(header, "choice", lambda row: row.choices[header])


def _quantity(of: Quantity) -> Column:
    def mean(row: Row) -> float | None:
        return row.values[of.key].mean if of.key in row.values else None

    return Column(of.header, "quantity", lambda row: row.show(of), mean)


def _published(key: str, header: str) -> Column:
    def number(row: Row) -> float | None:
        return float(_paper(row, key)) if _paper(row, key) else None

    return Column(header, "paper", lambda row: _paper(row, key), None if key == "source" else number)


def _paper(row: Row, key: str) -> str:
    value = getattr(row.paper, key, None)
    return "" if value is None else str(value)
