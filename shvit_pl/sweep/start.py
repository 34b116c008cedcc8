"""Starting a sweep, or joining one: check its flags and cells, run what is missing, and report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from signal import SIGINT, SIGTERM

from optuna.exceptions import StorageInternalError

from shvit_pl.fit.check import FitCheck
from shvit_pl.sweep.dry_run import dry_run
from shvit_pl.sweep.engine.driver import DriverConfig, Terminated, drive
from shvit_pl.sweep.engine.folder import write_record
from shvit_pl.sweep.engine.pool import Pool, slots_for, workers_and_gpus
from shvit_pl.sweep.engine.reading import Status, location_flag, read_status, recorded_sweeps, study_name
from shvit_pl.sweep.engine.storage import hide_password, open_storage
from shvit_pl.sweep.engine.sweep_study import SweepStudy
from shvit_pl.sweep.engine.worker import WorkerSpec
from shvit_pl.sweep.finish import finish
from shvit_pl.sweep.options import Options
from shvit_pl.sweep.plan.checks import check_flags, check_strays, open_cells
from shvit_pl.sweep.plan.definition import Definition, refuse_other
from shvit_pl.sweep.plan.sweep_file import define, pick_sweep_file, read_sweep_file
from shvit_pl.sweep.watch import LiveTable

_SILENCE = 6  # heartbeats


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
    options, command = _without_password(options, command)
    check_strays(flags)
    path, layers = pick_sweep_file(configs)
    file = read_sweep_file(path)
    base = [*(f"--config={config}" for config in (*file.base, *layers)), *flags]
    folder = Path(options.folder or f"sweeps/{file.path.stem}").expanduser()
    study = study_name(folder, options.storage, options.study)
    fit = FitCheck()
    check_flags(file, flags, fit)
    definition = define(file, base, fit)
    workers, gpus = workers_and_gpus(options, fit.trainer.devices)
    recorded = recorded_sweeps(folder, options.storage, study)
    for before, where in recorded:
        refuse_other(before, definition, where)
    spec = WorkerSpec(str(folder), options.storage, study, tuple(base), heartbeat=options.heartbeat)
    unchecked = all(before.cells != definition.cells for before, _ in recorded)
    opened = open_cells(definition, file, base, fit) if unchecked or options.dry_run else []
    if options.dry_run:
        dry_run(definition, opened, spec.program, workers)
    else:
        run_sweep(definition, spec, slots_for(workers, gpus), options, command)


def run_sweep(
    definition: Definition, spec: WorkerSpec, slots: Sequence[str | None], options: Options, command: Sequence[str]
) -> None:
    """Record a sweep, run what is missing, and report.

    Args:
        definition: What to run.
        spec: The settings of each worker.
        slots: One worker each, with its GPU.
        options: The flags of `sweep`.
        command: The command line.

    Raises:
        UserError: where the folder, or the study, holds another sweep.
        SystemExit: with 1 where runs failed; with 130 on Ctrl-C and 143 on SIGTERM, when all runs have ended.
    """
    folder = Path(spec.folder)
    folder.mkdir(parents=True, exist_ok=True)
    study = SweepStudy(open_storage(folder, spec.storage), spec.study, list(definition.objectives.values()))
    added = study.record(definition, location_flag(folder, spec.storage, spec.study))
    write_record(folder, definition, spec.study, spec.storage, command)
    again = study.forgive()
    status = read_status(study, definition, options.retries)
    _announce(definition, status, spec, len(slots), added, again)
    status = _drive(study, definition, Pool(spec, slots), options)
    gpu = next(iter(options.gpu_numbers), None)
    finish(study, definition, folder, options.speed and status.left == 0, gpu, options.plain)
    _close(status, folder)


def _drive(study: SweepStudy, definition: Definition, pool: Pool, options: Options) -> Status:
    """Work until nothing is left to do here, and return the progress."""
    config = DriverConfig(options.retries, _SILENCE * options.heartbeat, options.wait)
    try:
        with LiveTable(Path(pool.spec.folder), options.plain) as table:
            return drive(study, definition, pool, config, table)
    except (KeyboardInterrupt, Terminated) as stop:
        print(f"stopped: {_left(study, definition, options)}; the same command goes on with them", flush=True)
        raise SystemExit(128 + (SIGTERM if isinstance(stop, Terminated) else SIGINT)) from stop


def _close(status: Status, folder: Path) -> None:
    """Print what is not done, and what to do about it."""
    if status.left:
        print(f"{status.left} runs go on in other processes; update the report: shvit-pl report --folder {folder}")
    if status.failed:
        failed = status.failed[0]
        print(f"{len(status.failed)} of {status.total} runs failed, such as {failed.point.key}: {failed.error}")
        print(f"see {folder}/logs; the same command tries them again")
        raise SystemExit(1)


def _left(study: SweepStudy, definition: Definition, options: Options) -> str:
    try:
        status = read_status(study, definition, options.retries)
    except StorageInternalError:
        return "some runs may be left, the database is unavailable"
    return f"{status.left} of {status.total} runs are left"


def _without_password(options: Options, command: Sequence[str]) -> tuple[Options, Sequence[str]]:
    """Return both without the password of the database."""
    storage, hidden = options.storage, hide_password(options.storage)
    if storage is None or hidden is None:
        return options, command
    return replace(options, storage=hidden), [arg.replace(storage, hidden) for arg in command]


def _announce(definition: Definition, status: Status, spec: WorkerSpec, workers: int, added: int, again: int) -> None:
    print(f"sweep: {definition.counted} in {spec.folder}, {workers} at a time", flush=True)
    if 0 < added < status.total:
        print(f"{added} of them are new")
    if again:
        print(f"{again} that failed before are tried again")
    if status.left == 0:
        print("all runs are done")
