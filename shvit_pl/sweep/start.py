"""Starting a sweep, or joining one: check its flags and cells, run what is missing, and report."""

import os
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from signal import SIGINT, SIGTERM

import torch
from optuna.exceptions import StorageInternalError
from rich import box
from rich.console import Console
from rich.table import Table

from shvit_pl.display.terminal import new_progress, table_console
from shvit_pl.errors import UserError
from shvit_pl.fit.check import FitCheck
from shvit_pl.runs.folder import finished_run, read_summary
from shvit_pl.sweep.engine.driver import Driver, Launch, Terminated
from shvit_pl.sweep.engine.reading import find_place, read_status
from shvit_pl.sweep.engine.storage import hide_password, open_storage
from shvit_pl.sweep.engine.sweep_study import SweepStudy
from shvit_pl.sweep.finish import finish
from shvit_pl.sweep.options import Options
from shvit_pl.sweep.plan.checks import OpenedCell, check_flags, check_strays, define, open_cells
from shvit_pl.sweep.plan.definition import LOGS, Definition, refuse_other, write_record
from shvit_pl.sweep.plan.sweep_file import pick_sweep_file, read_sweep_file
from shvit_pl.sweep.processes import describe_exit
from shvit_pl.sweep.watch import LiveTable, duration

_STEPS = 6  # of each cell in a dry run
_VALIDATION = 1 / 3  # of the time that a training image takes: forward, without backward


def start(options: Options, configs: Sequence[str], flags: Sequence[str], command: Sequence[str]) -> None:
    """Start the sweep that the one sweep file among `configs` describes.

    Args:
        options: The flags of `sweep` itself.
        configs: All `--config`.
        flags: The flags for `fit`.
        command: The command line.

    Raises:
        UserError: for a mistake, before anything is started or written.
    """
    if (storage := options.storage) is not None:
        hidden = hide_password(storage)
        options, command = replace(options, storage=hidden), [arg.replace(storage, hidden) for arg in command]
    check_strays(flags)
    path, layers = pick_sweep_file(configs)
    file = read_sweep_file(path)
    base = [*(f"--config={config}" for config in (*file.base, *layers)), *flags]
    folder = Path(options.folder or f"sweeps/{file.path.stem}").expanduser()
    place = find_place(folder, options.storage, options.study)
    fit = FitCheck()
    check_flags(file, flags, fit)
    definition = define(file, base, fit)
    launch = Launch(place, base, slots(options, fit.trainer.devices))
    recorded = place.recorded()
    for before, where in recorded:
        refuse_other(before, definition, where)
    unchecked = all(before.cells != definition.cells for before, _ in recorded)
    opened = open_cells(definition, file, base, fit) if unchecked or options.dry_run else []
    if options.dry_run:
        dry_run(definition, opened, launch)
    else:
        run_sweep(definition, launch, options, command)


def slots(options: Options, devices: object) -> list[str | None]:
    """Return the GPU of each run that goes on at a time, as CUDA_VISIBLE_DEVICES names it; None for no own GPU.

    Args:
        options: The flags of `sweep`.
        devices: Value of --trainer.devices, of each run.

    Raises:
        UserError: for GPUs that are not there, and more workers than they have room for.
    """
    if str(devices) not in ("auto", "1", "-1"):
        if (options.workers or 1) > 1 or options.gpus is not None:
            advice = "each run takes several devices; leave out --workers and --gpus"
            raise UserError(f"--trainer.devices {devices}: {advice}.")
        return [None]
    count = torch.cuda.device_count()
    visible = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    available = {str(number): (visible or list(map(str, range(count))))[number] for number in range(count)}
    gpus = options.gpu_numbers or list(available)
    for gpu in gpus:
        if gpus.count(gpu) > 1:
            raise UserError(f"--gpus {options.gpus}: {gpu} appears twice; --per_gpu 2 gives it two workers.")
        if gpu not in available:
            allowed = f"allowed are {', '.join(available)}" if available else "torch finds no GPU here; leave it out"
            raise UserError(f"--gpus {options.gpus}: {allowed}.")
    room = max(1, len(gpus) * options.per_gpu)
    workers = options.workers or room
    if gpus and workers > room:
        fits = f"{len(gpus)} GPUs with --per_gpu {options.per_gpu} have room for {room}"
        raise UserError(f"--workers {workers}: {fits}; give more of --gpus, or a larger --per_gpu.")
    return [available[gpus[number % len(gpus)]] if gpus else None for number in range(workers)]


def run_sweep(definition: Definition, launch: Launch, options: Options, command: Sequence[str]) -> None:
    """Record a sweep, run what is missing, and report.

    Raises:
        UserError: where the folder, or the study, holds another sweep.
        SystemExit: with 1 where runs failed; with 130 on Ctrl-C and 143 on SIGTERM, when all runs have ended.
    """
    place, folder = launch.place, launch.place.folder
    folder.mkdir(parents=True, exist_ok=True)
    study = SweepStudy(open_storage(folder, place.storage), place.study, list(definition.objectives.values()))
    added = study.record(definition, place.flag)
    write_record(folder, definition, place.study, place.storage, command)
    again = study.forgive()
    status = read_status(study, definition, options.retries)
    print(f"sweep: {definition.counted} in {folder}, {len(launch.slots)} at a time", flush=True)
    if 0 < added < status.total:
        print(f"{added} of them are new")
    if again:
        print(f"{again} failed runs are tried again")
    if status.left == 0:
        print("all runs are done")
    try:
        with LiveTable(folder, options.plain) as table:
            status = Driver(study, launch, options).drive(definition, table.show)
    except (KeyboardInterrupt, Terminated) as stop:
        try:
            status = read_status(study, definition, options.retries)
            left = f"{status.left} of {status.total} runs are left"
        except StorageInternalError:
            left = "some runs may be left, the database is unavailable"
        print(f"stopped: {left}; the same command goes on with them", flush=True)
        raise SystemExit(128 + (SIGTERM if isinstance(stop, Terminated) else SIGINT)) from stop
    gpu = next(iter(options.gpu_numbers), None)
    finish(study, definition, folder, options.speed and status.left == 0, gpu, options.plain)
    if status.left:
        print(f"{status.left} runs go on in other processes; update the report: shvit-pl report --folder {folder}")
    if status.failed:
        failed = status.failed[0]
        print(f"{len(status.failed)} of {status.total} runs failed, such as {failed.point.key}: {failed.error}")
        print(f"see {folder / LOGS}; the same command tries them again")
        raise SystemExit(1)


def dry_run(definition: Definition, cells: Sequence[OpenedCell], launch: Launch) -> None:
    """Print the cells of a sweep (of a search, the ends of its ranges), their costs, and the time that runs will take.

    Raises:
        UserError: with its last line, for a cell whose first steps fail.
    """
    table = Table(box=box.SIMPLE_HEAD)
    for column in ("cell", "M params", "MMACs", "px", "images/s", "a run takes"):
        table.add_column(column, justify="left" if column == "cell" else "right")
    total = 0.0
    with new_progress(Console()) as bars:
        for cell in bars.track(cells, description="measuring a few steps of each cell"):
            begin, rate = _measure([*launch.program, *cell.flags], cell.name)
            plan = cell.planned
            seconds = begin + (plan.trained + _VALIDATION * plan.validated) / rate
            total += seconds
            costs = [f"{plan.params / 1e6:.2f}", f"{plan.macs / 1e6:.1f}", str(plan.image_size)]
            table.add_row(cell.name, *costs, f"{rate:.0f}", duration(seconds))
    table_console().print(table)
    whole, workers = total / len(cells) * len(definition.points), len(launch.slots)
    print(f"{definition.counted}: about {duration(whole)} one after the other")
    print(f"with --workers {workers}: {duration(whole / workers)}, if they do not slow each other down")
    print(f"estimated from {_STEPS} steps of each cell, a validation image taken as a third of a training image")
    print("nothing was run")


def _measure(command: Sequence[str], name: str) -> tuple[float, float]:
    """Run a few steps of `fit` in a temporary folder.

    Returns:
        The seconds beside the steps (imports, opening the data, writing), and the images per second in training.
    """
    with tempfile.TemporaryDirectory() as root:
        length = [f"--trainer.max_steps={_STEPS}", "--trainer.max_epochs=-1"]  # an epoch may have fewer
        length.append("--trainer.limit_val_batches=1")
        where = [f"--trainer.default_root_dir={root}", "--run_name=run", "--plain=true"]
        since = time.perf_counter()
        done = subprocess.run([*command, *length, *where], capture_output=True, text=True, check=False)
        wall = time.perf_counter() - since
        run = finished_run(Path(root) / "run")
        if run is None:
            error = describe_exit(done.stdout + done.stderr, done.returncode)
            raise UserError(f"{name}: its first steps fail: {error}")
        summary = read_summary(run)
    rate = summary["images_per_second"]
    return max(0.0, wall - summary["steps_trained"] * summary["global_batch"] / rate), rate
