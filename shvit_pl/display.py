"""Texts, tables and progress bars of all commands."""

import re
from collections.abc import Iterable, Sequence
from typing import Any

from rich import box, progress
from rich.console import Console
from rich.table import Table

from shvit_pl.errors import visible

_MOST = 4  # different values that are listed
_WIDTH = 160  # characters where there is no terminal
# marks that Markdown takes for its own anywhere, an underscore at the edge of a word, and those that begin a line
_MARKDOWN = re.compile(r"[\\`*|$~\[\]]|(?<!\w)_|_(?!\w)|\A(?:[+-](?= )|[#>])")


def shown(value: Any) -> str:
    """Return a value as it is typed after its flag; numbers to four significant digits."""
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def counted(count: int | str, noun: str) -> str:
    """Return words such as `1 run` and `2 runs`; empty without a count."""
    return f"{count} {noun}{'' if str(count) == '1' else 's'}" if count != "" else ""


def listed(parts: Sequence[str]) -> str:
    """Join such as `a, b and c`."""
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def join_distinct(values: Iterable[Any]) -> str:
    """Join the distinct known values, or return how many there are if they are many."""
    distinct = list(dict.fromkeys(shown(value) for value in values if value is not None))
    return " or ".join(distinct) if len(distinct) <= _MOST else f"{len(distinct)} different values"


def enclose(before: str, text: str, after: str = "") -> str:
    """Return a text between two others; empty if the text is empty."""
    return f"{before}{text}{after}" if text else ""


def in_markdown(text: object) -> str:
    """Return text in one line that Markdown shows as it is: no table, HTML, link, heading, emphasis or mathematics."""
    line = " ".join(str(text).split()).replace("&", "&amp;").replace("<", "&lt;")
    return _MARKDOWN.sub(r"\\\g<0>", line)


def joined(*parts: str) -> str:
    """Join the non-empty parts with commas."""
    return ", ".join(filter(None, parts))


def say(*lines: str) -> None:
    """Print lines whose control characters are shown: a terminal would obey those of a name."""
    print("\n".join(map(visible, lines)), flush=True)


def plain_console(**options: Any) -> Console:
    """Return a console, with rich's `options`, that prints texts as they are: a class may be called [/b]."""
    return Console(markup=False, emoji=False, highlight=False, **options)


def new_progress(console: Console | None = None, *more: progress.ProgressColumn) -> progress.Progress:
    """Return bars with name, count, time and time left, then the columns `more`; hidden where there is no terminal."""
    console = console or plain_console(soft_wrap=True)
    return progress.Progress(
        progress.TextColumn("{task.description}", markup=False),
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
        bars.console.print(visible(name))


def table_console(**options: Any) -> Console:
    """Return a console as wide as the terminal, elsewhere wide enough for a table; `options` are rich's."""
    return plain_console(width=None if Console().is_terminal else _WIDTH, **options)


def write_table(table: Table, plain: bool = False) -> None:
    """Print a table, without rules and colors where there is no terminal, or if `plain`."""
    console = table_console(no_color=plain)
    if plain or not console.is_terminal:
        table.box = None
    console.print(table)


class TextTable(Table):
    """A table whose cells show control characters: a terminal would obey those of a name."""

    def add_row(self, *cells: Any, **options: Any) -> None:
        """Add a row, with rich's `options`."""
        super().add_row(*(visible(cell) if isinstance(cell, str) else cell for cell in cells), **options)


def narrow_table(texts: Sequence[str], numbers: Sequence[str]) -> TextTable:
    """Return an empty compact table: columns of text, then columns of numbers; no line is broken."""
    table = TextTable(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in texts:
        table.add_column(name, no_wrap=True)
    for name in numbers:
        table.add_column(name, justify="right", no_wrap=True)
    return table
