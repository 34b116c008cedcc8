"""The report for a terminal."""

from __future__ import annotations

from rich import box
from rich.table import Table
from rich.text import Text

from shvit_pl.display.terminal import table_console
from shvit_pl.sweep.report.findings import Findings, findings_of
from shvit_pl.sweep.report.sentences import answer, progress
from shvit_pl.sweep.results import Results


def summary_lines(results: Results) -> list[str]:
    """The cells as a table for a terminal, how far the sweep is, and what it shows."""
    found = findings_of(results)
    return [*_table(found), f"{progress(results)}.", *answer(found)]


def _table(found: Findings) -> list[str]:
    """Without what the paper published, for which a terminal is too narrow."""
    columns = [column for column in found.columns if column.kind != "paper"]
    table = Table(box=box.SIMPLE)
    for column in columns:
        table.add_column(Text(column.header), justify="right" if column.kind == "quantity" else "left")
    for row in found.rows:
        table.add_row(*(Text(column.text(row)) for column in columns))
    return _printed(table)


def _printed(table: Table) -> list[str]:
    console = table_console(color_system=None)
    with console.capture() as capture:
        console.print(table)
    return [line.rstrip() for line in capture.get().splitlines() if line.strip()]
