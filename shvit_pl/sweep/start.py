"""Starting a sweep, or joining in: reading and checking what is asked for, running what is missing, reporting."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from signal import SIGINT, SIGTERM

import torch
from optuna.exceptions import StorageInternalError

from shvit_pl.errors import UserError
from shvit_pl.fit.check import fit_check
from shvit_pl.sweep.dry_run import dry_run
from shvit_pl.sweep.engine.driver import Terminated, Terms, drive
from shvit_pl.sweep.engine.pool import Pool, slots_for
from shvit_pl.sweep.engine.worker import WorkerSpec
from shvit_pl.sweep.finish import finish
from shvit_pl.sweep.options import Options
from shvit_pl.sweep.plan.checks import check_flags, check_strays, define, open_cells
from shvit_pl.sweep.plan.definition import Definition, refuse_other
from shvit_pl.sweep.plan.sweep_file import pick_sweep_file, read_sweep_file
from shvit_pl.sweep.study.board import Board
from shvit_pl.sweep.study.folder import write_record
from shvit_pl.sweep.study.place import place, study_of, sweeps_there
from shvit_pl.sweep.study.progress import Status, status_of
from shvit_pl.sweep.study.storage import hide_password, open_storage
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
    study = study_of(folder, options.storage, options.study)
    fit = fit_check()
    check_flags(file, flags, fit)
    definition = define(file, base, fit)
    workers, gpus = _workers(options, fit.config.fit.trainer.devices)
    there = sweeps_there(folder, options.storage, study)
    for before, where in there:
        refuse_other(before, definition, where)
    spec = WorkerSpec(str(folder), options.storage, study, tuple(base), heartbeat=options.heartbeat)
    unchecked = all(before.cells != definition.cells for before, _ in there)
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
        spec: What each worker is told.
        slots: One worker each, with its GPU.
        options: As on the command line.
        command: The command line.

    Raises:
        UserError: where the folder, or the study, holds another sweep.
        SystemExit: with 1 where runs failed; with 130 on Ctrl-C and 143 on SIGTERM, when all runs have ended.
    """
    folder = Path(spec.folder)
    folder.mkdir(parents=True, exist_ok=True)
    board = Board(open_storage(folder, spec.storage), spec.study, list(definition.objectives.values()))
    added = board.record(definition, place(folder, spec.storage, spec.study))
    write_record(folder, definition, spec.study, spec.storage, command)
    again = board.forgive()
    status = status_of(board, definition, options.retries)
    _announce(definition, status, spec, len(slots), added, again)
    terms = Terms(options.retries, _SILENCE * options.heartbeat, options.wait)
    try:
        with LiveTable(folder, options.plain) as table:
            status = drive(board, definition, Pool(spec, slots), terms, table)
    except (KeyboardInterrupt, Terminated) as stop:
        print(f"stopped: {_left(board, definition, options)}; the same command goes on with them", flush=True)
        raise SystemExit(128 + (SIGTERM if isinstance(stop, Terminated) else SIGINT)) from stop
    gpu = options.gpus.split(",")[0].strip() if options.gpus is not None else None
    finish(board, definition, folder, options.speed and status.left == 0, gpu, options.plain)
    if status.left:
        print(f"{status.left} runs go on elsewhere, and end up in this report: shvit-pl report --folder {folder}")
    if status.failed:
        failed = status.failed[0]
        print(f"{len(status.failed)} of {status.total} runs failed, such as {failed.point.key}: {failed.error}")
        print(f"see {folder}/logs; the same command tries them again")
        raise SystemExit(1)


def _left(board: Board, definition: Definition, options: Options) -> str:
    try:
        status = status_of(board, definition, options.retries)
    except StorageInternalError:
        return "some runs may be left, the database is away"
    return f"{status.left} of {status.total} runs are left"


def _without_password(options: Options, command: Sequence[str]) -> tuple[Options, Sequence[str]]:
    """Both as they may be written down."""
    given, hidden = options.storage, hide_password(options.storage)
    if given is None or hidden is None:
        return options, command
    return replace(options, storage=hidden), [arg.replace(given, hidden) for arg in command]


def _workers(options: Options, devices: object) -> tuple[int, list[str]]:
    """How many workers, and which GPUs are handed out to them, as CUDA_VISIBLE_DEVICES names them."""
    there = {str(number): name for number, name in enumerate(_visible_gpus())}
    if str(devices) not in ("auto", "1", "-1"):
        if (options.workers or 1) > 1 or options.gpus is not None:
            raise UserError(
                f"--trainer.devices {devices}: each run takes several devices; leave out --workers and --gpus."
            )
        return 1, []
    gpus = [gpu.strip() for gpu in options.gpus.split(",")] if options.gpus is not None else list(there)
    for gpu in gpus:
        if gpus.count(gpu) > 1:
            raise UserError(f"--gpus {options.gpus}: {gpu} is there twice; --per_gpu 2 gives it two workers.")
        if gpu not in there:
            found = f"allowed are {', '.join(there)}" if there else "torch finds no GPU here; leave it out"
            raise UserError(f"--gpus {options.gpus}: {found}.")
    room = max(1, len(gpus) * options.per_gpu)
    if gpus and (options.workers or 1) > room:
        raise UserError(
            f"--workers {options.workers}: {len(gpus)} GPUs with --per_gpu {options.per_gpu} have room for {room}; "
            "give more of --gpus, or a larger --per_gpu."
        )
    return options.workers or room, [there[gpu] for gpu in gpus]


def _visible_gpus() -> list[str]:
    """Names of the GPUs that torch numbers from 0: where the environment picks some, it names them."""
    count = torch.cuda.device_count()
    named = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    return (named or [str(number) for number in range(count)])[:count]


def _announce(definition: Definition, status: Status, spec: WorkerSpec, workers: int, added: int, again: int) -> None:
    print(f"sweep: {definition.counted} in {spec.folder}, {workers} at a time", flush=True)
    if 0 < added < status.total:
        print(f"{added} of them are new")
    if again:
        print(f"{again} that failed before are tried again")
    if status.left == 0:
        print("all runs are done")
