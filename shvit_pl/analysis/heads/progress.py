"""How far a study is."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


class Bars:
    """Bars with the time left on a terminal, and lines of what begins elsewhere."""

    def __init__(self) -> None:
        self._console = Console(highlight=False, soft_wrap=True)
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("left"),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._bars.stop()

    def begin(self, what: str, total: int, done: int) -> TaskID:
        """A bar of `total` steps, of which some are done; finished ones have none."""
        if not self._console.is_terminal and done < total:
            self._console.print(what, markup=False)
        return self._bars.add_task(what, total=total, completed=done, visible=done < total)

    def advance(self, bar: TaskID, steps: int = 1) -> None:
        """So many steps further."""
        self._bars.advance(bar, steps)
