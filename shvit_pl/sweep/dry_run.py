"""The runs of a sweep with their cost, and an estimate of their time from a few steps of each cell."""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from shvit_pl.display.terminal import new_progress, table_console
from shvit_pl.errors import UserError
from shvit_pl.fit.check import Planned
from shvit_pl.runs.folder import finished_run, read_summary
from shvit_pl.sweep.plan.checks import OpenedCell
from shvit_pl.sweep.plan.definition import Definition
from shvit_pl.sweep.processes import describe_exit
from shvit_pl.sweep.watch import duration

_STEPS = 6
_VALIDATION = 1 / 3  # of the time that a training image takes: forward, without backward


@dataclass(frozen=True)
class Measured:
    """The times of a few steps of a cell."""

    start: float
    """Seconds beside the steps: imports, opening the data, writing."""
    images_per_second: float
    """Images per second in training, loading included."""

    def seconds(self, planned: Planned) -> float:
        """Estimate the seconds of a whole run."""
        images = planned.trained + _VALIDATION * planned.validated
        return self.start + images / self.images_per_second


def dry_run(definition: Definition, cells: Sequence[OpenedCell], program: Sequence[str], workers: int) -> None:
    """Print the cells of a sweep, their costs, and the estimated time of their runs.

    Args:
        definition: The sweep.
        cells: Its cells; of a search, the ends of its ranges.
        program: The program that runs them.
        workers: Runs at a time, by which the time is divided.

    Raises:
        UserError: with its last line, for a cell whose first steps fail.
    """
    table = Table(box=box.SIMPLE_HEAD)
    for column in ("cell", "M params", "MMACs", "px", "images/s", "a run takes"):
        table.add_column(column, justify="left" if column == "cell" else "right")
    total = 0.0
    with new_progress(Console()) as bars:
        for cell in bars.track(cells, description="measuring a few steps of each cell"):
            measured = _measure([*program, *cell.flags], cell.name)
            seconds, plan = measured.seconds(cell.planned), cell.planned
            total += seconds
            costs = [f"{plan.params / 1e6:.2f}", f"{plan.macs / 1e6:.1f}", str(plan.image_size)]
            table.add_row(cell.name, *costs, f"{measured.images_per_second:.0f}", duration(seconds))
    table_console().print(table)
    whole = total / len(cells) * len(definition.points)
    print(f"{definition.counted}: about {duration(whole)} one after the other")
    print(f"by --workers {workers}: {duration(whole / workers)}, if they do not slow each other down")
    print(f"start and rate measured over {_STEPS} steps, a validation image taken as a third of one; nothing was run")


def _measure(command: Sequence[str], name: str) -> Measured:
    """Run a few steps of `fit`, in a temporary folder."""
    with tempfile.TemporaryDirectory() as root:
        flags = [
            f"--trainer.max_steps={_STEPS}",
            "--trainer.max_epochs=-1",  # an epoch may have fewer
            "--trainer.limit_val_batches=1",
            f"--trainer.default_root_dir={root}",
            "--run_name=run",
            "--plain=true",
        ]
        since = time.perf_counter()
        done = subprocess.run([*command, *flags], capture_output=True, text=True, check=False)
        wall = time.perf_counter() - since
        run = finished_run(Path(root) / "run")
        if run is None:
            raise UserError(
                f"{name}: its first steps fail: {describe_exit(done.stdout + done.stderr, done.returncode)}"
            )
        summary = read_summary(run)
    rate = summary["images_per_second"]
    return Measured(max(0.0, wall - summary["steps_trained"] * summary["global_batch"] / rate), rate)
