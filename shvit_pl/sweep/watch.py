"""The progress of a sweep: a live table on a terminal, a line per event elsewhere."""

from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Self

from rich.console import Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from shvit_pl.display import plain_console
from shvit_pl.errors import visible
from shvit_pl.sweep.definition import LOGS
from shvit_pl.sweep.engine.reading import RunStatus, Status

_ROWS = 12  # runs in the table


class LiveTable:
    """A context manager that shows what runs, what is done, what failed, the best so far, and the time left.

    With `plain` it prints lines instead of a table, also on a terminal.
    """

    def __init__(self, folder: Path, plain: bool = False) -> None:
        self.folder = folder
        self.console = plain_console(no_color=plain, soft_wrap=True)
        is_live = self.console.is_terminal and not plain
        self._live = Live(console=self.console, refresh_per_second=2) if is_live else None
        self._begun: dict[str, int] = {}  # number of tries before the one whose begin was printed, by key
        self._ended: set[str] | None = None  # keys of runs whose end was printed; None before the first look

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, status: Status) -> None:
        """Show the progress."""
        ended = (*status.ended, *status.failed)
        if self._ended is None:
            self._ended = {run.point.key for run in ended}
            self._begun = {run.point.key: len(run.before) for run in ended}
            if ended:
                self.console.print(f"{len(ended)} of {status.total} runs were done before")
        for run in ended:
            if run.point.key not in self._ended:
                self._ended.add(run.point.key)
                self._print_begin(run)  # prints only what began since the last look
                values = zip(status.objectives, run.values, strict=False)
                names = ", ".join(f"{name} {value:.4g}" for name, value in values)
                outcome = f"{names} in {duration(run.seconds)}" + " (pruned)" * run.pruned
                outcome = f"failed: {run.error}" if run in status.failed else outcome
                left = f", about {duration(status.seconds_left)}" if status.seconds_left else ""
                self.console.print(visible(f"{_name(run)}: {outcome}  ({status.left} left{left})"))
        for running in status.running:
            self._print_begin(running)
        if self._live is not None:
            self._live.update(self._table(status))

    def _print_begin(self, run: RunStatus) -> None:
        """Print a run's command, once, and why it begins again."""
        printed = self._begun.get(run.point.key)
        if run.command and printed != len(run.before):
            self._begun[run.point.key] = len(run.before)
            how = f"begins: {run.command}" if printed is None else f"begins again, after: {run.before[-1]}"
            self.console.print(visible(f"{_name(run)} {how}"))

    def _table(self, status: Status) -> Group:
        """Return a bar, a line for each of the first runs, and the best run so far."""
        done = len(status.ended) + len(status.failed)
        counts, runs = Table.grid(padding=(0, 2)), Table.grid(padding=(0, 2))
        counts.add_row(
            ProgressBar(total=status.total, completed=done, width=24),
            f"{done}/{status.total} runs",
            f"{len(status.running)} running",
            f"{len(status.failed)} failed" if status.failed else "",
            f"about {duration(status.seconds_left)} left" if status.seconds_left is not None else "",
        )
        for run in status.running[:_ROWS]:
            last = ""  # stays empty before its log is there
            with suppress(OSError), (self.folder / LOGS / f"{run.point.key}.log").open("rb") as log:
                log.seek(max(0, log.seek(0, 2) - 2000))
                last = " ".join((log.read().decode(errors="replace").splitlines() or [""])[-1].split())
            text = Text("starting" if last.startswith("$") else visible(last), "dim", end="")
            runs.add_row(visible(f"  {run.point.cell}"), run.point.label, duration(run.seconds), text)
        best = ""
        if status.best is not None:
            objective, value = next(iter(status.objectives)), status.best.values[0]
            best = f"  best so far: {objective} {value:.4g}, {_name(status.best)}"
        return Group(counts, runs, Text(visible(best)))


def duration(seconds: float) -> str:
    """Format seconds as hours:minutes:seconds."""
    return str(timedelta(seconds=round(seconds)))


def _name(run: RunStatus) -> str:
    return f"{run.point.cell}, {run.point.label}"
