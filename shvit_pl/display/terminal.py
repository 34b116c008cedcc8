"""Progress bars and tables on a terminal."""

from collections.abc import Sequence
from typing import Any

from rich import box, progress
from rich.console import Console
from rich.table import Table

_WIDTH = 160  # characters where there is no terminal


def new_progress(console: Console | None = None, *more: progress.ProgressColumn) -> progress.Progress:
    """Return bars with name, count, time and time left, then the columns `more`; hidden where there is no terminal."""
    console = console or Console(highlight=False, soft_wrap=True)
    return progress.Progress(
        progress.TextColumn("{task.description}"),
        progress.BarColumn(bar_width=16),
        progress.MofNCompleteColumn(),
        progress.TimeElapsedColumn(),
        progress.TimeRemainingColumn(),
        progress.TextColumn("left"),
        *more,
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


def announce(bars: progress.Progress, name: str) -> None:
    """Print the name of what begins where there are no bars."""
    if bars.disable:
        bars.console.print(name, markup=False)


def table_console(**options: Any) -> Console:
    """Return a console as wide as the terminal, elsewhere wide enough for a table; `options` are rich's."""
    return Console(width=None if Console().is_terminal else _WIDTH, highlight=False, **options)


def narrow_table(texts: Sequence[str], numbers: Sequence[str]) -> Table:
    """Return an empty compact table: columns of text, then columns of numbers; no line is broken."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in texts:
        table.add_column(name, no_wrap=True)
    for name in numbers:
        table.add_column(name, justify="right", no_wrap=True)
    return table
