"""Progress bars and tables on a terminal."""

from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

from rich import box, progress
from rich.console import Console
from rich.table import Table

_WIDTH = 160  # characters where there is no terminal


def new_progress(console: Console, *more: progress.ProgressColumn) -> progress.Progress:
    """Return bars with name, count, time and time left, then the columns `more`; hidden where there is no terminal."""
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


class Bars:
    """Bars on a terminal, with columns `more`; elsewhere a line for each task that begins."""

    def __init__(self, *more: progress.ProgressColumn) -> None:
        self.console = Console(highlight=False, soft_wrap=True)
        self._bars = new_progress(self.console, *more)

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def begin(self, name: str, total: int, done: int) -> progress.TaskID:
        """Return a bar of `total` steps, of which some are done; it is hidden when all are."""
        if done < total:
            self.begins(name)
        return self._bars.add_task(name, total=total, completed=done, visible=done < total)

    def advance(self, bar: progress.TaskID) -> None:
        """Advance a bar by one step."""
        self._bars.advance(bar)

    def begins(self, name: str) -> None:
        """Print a task's name where there are no bars."""
        if not self.console.is_terminal:
            self.say(name)

    def say(self, line: str) -> None:
        """Print a line above the bars."""
        self.console.print(line, markup=False)


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
