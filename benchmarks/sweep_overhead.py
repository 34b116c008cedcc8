"""What a sweep costs beyond its fits, by engine, and what a second worker brings.

Each round does the same short fits by hand, by a sweep of one worker, and by a sweep of two, on each engine. Runs of a
program that only sleeps show what the engine itself does.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from statistics import median

import yaml
from jsonargparse import auto_cli

from benchmarks.report import environment, publish, table
from shvit_pl.sweep.engine.study import COMMAND, SweepStudy, open_journal
from tests.sweep.engine.launch import Sweep

FLAGS = (
    "--model.design.name=tiny",
    "--data.image_size=64",
    "--data.num_workers=0",
    "--trainer.max_epochs=2",
    "--trainer.limit_train_batches=10",
    "--trainer.limit_val_batches=2",
)
_PACKAGES = ("torch", "lightning", "optuna", "ray")
_CLI = (sys.executable, "-m", "shvit_pl.cli")
Seconds = dict[str, float]


def main(
    points: int = 3,
    rounds: int = 3,
    asleep: int = 8,
    threads: int = 1,
    engines: tuple[str, ...] = ("local", "ray"),
    out: Path = Path("benchmarks/results"),
) -> None:
    """Measure, print the table, and write it to `out`.

    Args:
        points: Fits in a sweep.
        rounds: Repetitions; the medians are told.
        asleep: Runs of a second that only sleeps.
        threads: Of each fit; 0 for a share of the cores.
        engines: To be compared, in turn within each round.
        out: Folder of the results.
    """
    os.environ.pop("OMP_NUM_THREADS", None)
    if threads:
        os.environ["OMP_NUM_THREADS"] = str(threads)
    measured: dict[str, list[Seconds]] = {engine: [] for engine in engines}
    for number in range(rounds):
        for engine in engines:
            with tempfile.TemporaryDirectory() as folder:
                measured[engine].append(_round(Path(folder), engine, points, asleep))
            print(f"round {number + 1} of {rounds}, {engine}: {json.dumps(measured[engine][-1])}", flush=True)
    medians = {
        engine: {name: median(each[name] for each in parts) for name in parts[0]} for engine, parts in measured.items()
    }
    text = _told(medians, points, rounds, asleep, threads)
    title = "What a sweep costs"
    publish(out / "sweep_overhead", title, text, environment(_PACKAGES), medians=medians, rounds=measured)


def _round(folder: Path, engine: str, points: int, asleep: int) -> Seconds:
    one, commands = _sweep(folder / "one", engine, points, workers=1)
    by_hand = [_by_hand(command, folder / "by_hand") for command in commands]
    two, _ = _sweep(folder / "two", engine, points, workers=2)
    dozing = {workers: _doze(folder / f"asleep_{workers}", engine, asleep, workers) for workers in (1, 2)}
    return {
        "fit by hand": median(by_hand),
        "driver's start": one["start"],
        "overhead of a trial": (one["runs"] - sum(by_hand)) / points,
        "driver's end, with its report": one["end"],
        "speed-up of two workers": one["runs"] / two["runs"],
        "overhead of a run that sleeps": dozing[1] / asleep - 1,
        "speed-up of two workers that sleep": dozing[1] / dozing[2],
    }


def _sweep(folder: Path, engine: str, points: int, workers: int) -> tuple[Seconds, list[list[str]]]:
    """Seconds of the parts of a sweep of real fits, and the flags of each fit."""
    folder.mkdir()
    rates = [0.001 * (number + 1) for number in range(points)]
    (folder / "rates.yaml").write_text(yaml.safe_dump({"base": "s1.yaml", "grid": {"model.optim.lr": rates}}))
    own = (f"--config={folder / 'rates.yaml'}", f"--folder={folder}", f"--engine={engine}", f"--workers={workers}")
    began = time.time()
    subprocess.run([*_CLI, "sweep", *own, *FLAGS, "--speed=false"], check=True, stdout=subprocess.DEVNULL)
    ended = time.time()
    study = SweepStudy(open_journal(folder))
    first, last = _window(study)
    parts = {"start": first - began, "runs": last - first, "end": ended - last}
    return parts, [trial.user_attrs[COMMAND] for trial in study.trials()]


def _by_hand(flags: list[str], folder: Path) -> float:
    """Seconds of a fit of a sweep that is started by hand."""
    began = time.perf_counter()
    command = [*_CLI, "fit", *flags, f"--trainer.default_root_dir={folder}"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def _doze(folder: Path, engine: str, points: int, workers: int) -> float:
    """Seconds of the runs of a sweep whose program sleeps for one."""
    sweep = Sweep(str(folder), points=points, engine=engine, workers=workers)
    assert sweep.start().wait() == 0, sweep.output.read_text()
    first, last = _window(SweepStudy(open_journal(folder)))
    return last - first


def _window(study: SweepStudy) -> tuple[float, float]:
    """When the first trial of a sweep began and its last one ended, in seconds since the epoch."""
    trials = study.trials()
    starts = [trial.datetime_start.timestamp() for trial in trials if trial.datetime_start]
    ends = [trial.datetime_complete.timestamp() for trial in trials if trial.datetime_complete]
    return min(starts), max(ends)


def _told(medians: Mapping[str, Seconds], points: int, rounds: int, asleep: int, threads: int) -> str:
    names = next(iter(medians.values()))
    rows = [
        [name, *(f"{parts[name]:.2f}" + ("" if "speed-up" in name else " s") for parts in medians.values())]
        for name in names
    ]
    each = f"{threads} threads each" if threads > 1 else "one thread each" if threads else "their share of the cores"
    return table(["", *medians], rows) + (
        f"\n\nMedians of {rounds} rounds on {os.cpu_count()} cores that others load at the same time, by a "
        f"factor that varies. Each round, for each engine: {points} fits of `tiny` at 64 pixels (20 steps, {each}) by "
        f"a sweep of one worker, by hand, and by a sweep of two workers; and {asleep} runs of a program that sleeps "
        "for a second, by one worker and by two. A trial's overhead is what one worker takes from the start of the "
        "first run to the end of the last, less what the same fits take by hand, for each of them; that of a run that "
        "sleeps includes the start of its Python. Ray runs on this computer alone; its own start is in the driver's."
    )


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
