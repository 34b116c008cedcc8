"""How far a benchmark is."""

from __future__ import annotations

from collections.abc import Sequence

from rich.progress import TextColumn

from shvit_pl.deploy.benchmark.cells import Group
from shvit_pl.deploy.benchmark.options import Options
from shvit_pl.display.terminal import Bars


class Steps(Bars):
    """A bar of all that is built and measured, and what that is now; lines of what is skipped.

    Args:
        groups: What is to be measured.
        options: How.
    """

    def __init__(self, groups: Sequence[Group], options: Options) -> None:
        super().__init__(TextColumn("{task.fields[now]}"))
        self._measurements = 1 if options.protocol == "official" else options.blocks
        self._total = sum(len(group.cells) for group in groups) * (1 + self._measurements)
        self._bar = self._bars.add_task("benchmark", total=self._total, now="")

    def build(self, what: str) -> None:
        """One step further: it is built now."""
        self.begins(f"building {what}")
        self.measure(f"building {what}")

    def measure(self, what: str, *_: int) -> None:
        """One step further: it is measured now."""
        self._bars.update(self._bar, advance=1, now=what)

    def leave_out(self, cells: int) -> None:
        """So many cells will not be measured."""
        self._total -= cells * self._measurements
        self._bars.update(self._bar, total=self._total)
