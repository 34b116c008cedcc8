"""The report for a terminal."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from shvit_pl.sweep.report.quantities import quantities
from shvit_pl.sweep.report.rows import rows
from shvit_pl.sweep.report.sentences import answer, progress
from shvit_pl.sweep.results import Results

_WIDTH = 160  # of a table that goes into a log file


def summary_lines(results: Results) -> list[str]:
    """The cells as a table for a terminal, how far the sweep is, and what it shows."""
    found, columns = rows(results), quantities(results)
    choices = list(found[0].choices) if found else []
    table = Table("no.", *choices, "done", box=box.SIMPLE)
    for of in columns:
        table.add_column(of.header, justify="right")
    for row in found:
        cells = [
            str(row.number),
            *row.choices.values(),
            row.runs,
            *(row.show(of) for of in columns),
        ]
        table.add_row(*(Text(cell) for cell in cells))
    return [*_printed(table), f"{progress(results)}.", *answer(results)]


def _printed(table: Table) -> list[str]:
    console = Console(color_system=None, highlight=False)
    if not console.is_terminal:
        console = Console(color_system=None, highlight=False, width=_WIDTH)
    with console.capture() as capture:
        console.print(table)
    return [line.rstrip() for line in capture.get().splitlines() if line.strip()]
