"""How far a benchmark is."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from shvit_pl.deploy.benchmark.cells import Group
from shvit_pl.deploy.benchmark.options import Options


class Steps:
    """A bar with the time left on a terminal, and lines of what is skipped everywhere.

    Args:
        groups: What is to be measured.
        options: How.
    """

    def __init__(self, groups: Sequence[Group], options: Options) -> None:
        cells = sum(len(group.cells) for group in groups)
        self.console = Console(highlight=False, soft_wrap=True)
        self._bar = Progress(
            BarColumn(bar_width=16),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("left"),
            TextColumn("{task.description}"),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )
        self._total = cells * (1 + _measurements(options))
        self._task = self._bar.add_task("", total=self._total)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._bar.stop()

    def next(self, what: str) -> None:
        """One step further: `what` begins."""
        self._bar.update(self._task, advance=1, description=what)
        if not self.console.is_terminal and what.startswith("building"):
            self.say(what)

    def measured(self, what: str, done: int, total: int) -> None:
        """One block further."""
        self.next(what)

    def leave_out(self, cells: int, options: Options) -> None:
        """So many cells will not be measured."""
        self._total -= cells * _measurements(options)
        self._bar.update(self._task, total=self._total)

    def say(self, line: str) -> None:
        """Print above the bar."""
        self.console.print(line, markup=False)


def _measurements(options: Options) -> int:
    return 1 if options.protocol == "official" else options.blocks
