"""How far something is: bars with the time left."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


def new_progress(console: Console, *more: ProgressColumn) -> Progress:
    """Bars with name, count, time and time left, then what `more` shows; none where there is no terminal."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=16),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("left"),
        *more,
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


class Bars:
    """Bars on a terminal, and lines of what begins elsewhere.

    Args:
        more: Further columns of the bars.
    """

    def __init__(self, *more: ProgressColumn) -> None:
        self.console = Console(highlight=False, soft_wrap=True)
        self._bars = new_progress(self.console, *more)

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._bars.stop()

    def begin(self, what: str, total: int, done: int) -> TaskID:
        """A bar of `total` steps, of which some are done; finished ones have none."""
        if done < total:
            self.begins(what)
        return self._bars.add_task(what, total=total, completed=done, visible=done < total)

    def advance(self, bar: TaskID) -> None:
        """One step further."""
        self._bars.advance(bar)

    def begins(self, what: str) -> None:
        """Print it where there are no bars."""
        if not self.console.is_terminal:
            self.say(what)

    def say(self, line: str) -> None:
        """Print above the bars."""
        self.console.print(line, markup=False)
