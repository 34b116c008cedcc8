"""Tables for a terminal, and for a file that what is printed goes into."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

_WIDTH = 160  # characters where there is no terminal


def table_console(**how: Any) -> Console:
    """A console as wide as the terminal, elsewhere wide enough for a table; `how` is rich's."""
    return Console(width=None if Console().is_terminal else _WIDTH, highlight=False, **how)


def narrow_table(texts: Sequence[str], numbers: Sequence[str]) -> Table:
    """An empty table with little space: columns of text, then columns of numbers; no line is broken."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in texts:
        table.add_column(name, no_wrap=True)
    for name in numbers:
        table.add_column(name, justify="right", no_wrap=True)
    return table
