"""What the driver of a sweep costs by itself, with many runs on many made-up nodes, where runs take no processor."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from resource import RUSAGE_SELF, getrusage
from statistics import median
from typing import Any

from jsonargparse import auto_cli

from benchmarks.report import environment, publish, table
from shvit_pl.runs.folder import write_summary
from shvit_pl.sweep.definition import RUNS, Definition
from shvit_pl.sweep.engine.driver import Driver, Launch
from shvit_pl.sweep.engine.engines import Ended, Engine, Job
from shvit_pl.sweep.engine.study import open_study
from shvit_pl.sweep.options import SweepOptions
from tests.sweep.engine.fake_fit import summary

_ASLEEP = (5.0, 15.0)  # seconds of a run


def main(
    trials: tuple[int, ...] = (250, 500, 1000),
    nodes: int = 100,
    gpus: int = 8,
    out: Path = Path("benchmarks/results"),
    measure: int | None = None,
) -> None:
    """Measure, print the table, and write it to `out`.

    Args:
        trials: Numbers of runs, a sweep for each.
        nodes: Made-up nodes.
        gpus: Of each, and runs at a time.
        out: Folder of the results.
        measure: Number of runs of the one sweep that this process measures; for its own use.
    """
    if measure is not None:
        print(json.dumps(_drive(measure, nodes * gpus)))
        return
    rows = []
    for count in trials:  # each in a process of its own, for its memory
        own = [f"--measure={count}", f"--nodes={nodes}", f"--gpus={gpus}"]
        done = subprocess.run([sys.executable, "-m", "benchmarks.sweep_driver", *own], capture_output=True, check=True)
        rows.append(json.loads(done.stdout.splitlines()[-1]))
    shown = [[str(value) for value in row.values()] for row in rows]
    text = table(list(rows[0]), shown) + (
        f"\n\nOn {nodes} made-up nodes of {gpus} GPUs; runs that sleep for {_ASLEEP[0]:g} to {_ASLEEP[1]:g} seconds, "
        "and write a summary. Processor time of the driver: for a trial, all of its sweep divided by its runs; a step "
        "looks at all runs, where none has ended; the first step enqueues all trials. Memory: beyond what the process "
        "had before."
    )
    publish(out / "sweep_driver", "What the driver of a sweep costs", text, environment(("optuna",)), rows=rows)


class _Sleeping(Engine):
    """Nodes on which runs only take time."""

    def __init__(self, folder: Path, places: int) -> None:
        self.folder, self.places, self.draw = folder, places, Random(0)

    def room(self) -> int:
        return self.places

    def start(self, jobs: Sequence[Job]) -> list[tuple[Job, float]]:
        return [(job, time.monotonic() + self.draw.uniform(*_ASLEEP)) for job in jobs]

    def ended(self, run: Any) -> Ended | None:
        job, until = run
        if time.monotonic() < until:
            return None
        flags = dict(flag.removeprefix("--").split("=", 1) for flag in job.command if flag.startswith("--"))
        where = self.folder / RUNS / job.name / "version_0"
        where.mkdir(parents=True)
        write_summary(where, summary(flags, 1.0))
        return Ended(0)

    def stop(self, runs: Sequence[Any]) -> None:
        pass

    def close(self) -> None:
        pass


def _drive(count: int, places: int) -> dict[str, float]:
    """Run a sweep of so many runs; returns what its driver cost."""
    cells = {f"lr {number}": {"model.optim.lr": number / 1e4} for number in range(count)}
    with tempfile.TemporaryDirectory() as root:
        folder, definition = Path(root), Definition("grid", cells, (0,), {"val/acc1": "max"}, {})
        study = open_study(folder, definition)
        driver = Driver(study, definition, Launch(folder, ()), _Sleeping(folder, places), SweepOptions(speed=False))
        steps: list[tuple[int, float]] = []
        driver._look = _timed(driver._look, steps)  # type: ignore[method-assign]
        memory, since = getrusage(RUSAGE_SELF).ru_maxrss, time.process_time()
        driver.drive(lambda status: None)
        seconds = time.process_time() - since
        ended = [0, *(left for left, _ in steps)]
        idle = [took for (left, took), before in zip(steps, ended, strict=False) if left == before]
        return {
            "trials": count,
            "ms per trial": round(1e3 * seconds / count, 1),
            "ms of a step": round(1e3 * median(idle or [took for _, took in steps]), 1),
            "ms of the first step": round(1e3 * steps[0][1]),
            "MB": round((getrusage(RUSAGE_SELF).ru_maxrss - memory) / 1024, 1),
        }


def _timed(look: Callable[[], Any], steps: list[tuple[int, float]]) -> Callable[[], Any]:
    """Note for each step how many runs are left, and its processor time."""

    def timed() -> Any:
        since = time.process_time()
        status = look()
        steps.append((status.left, time.process_time() - since))
        return status

    return timed


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
