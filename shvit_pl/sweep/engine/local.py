"""Runs on this computer: processes that die with the driver, each with its GPUs and its share of the cores."""

import os
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from shvit_pl.compat import cores_of_process
from shvit_pl.errors import UserError
from shvit_pl.sweep.engine.engines import Ended, Engine, Job
from shvit_pl.sweep.options import SweepOptions
from shvit_pl.sweep.processes import end_processes, run_environment, start_process


@dataclass(frozen=True)
class _Run:
    slot: int
    process: subprocess.Popen[bytes]


class LocalEngine(Engine):
    """Processes of this computer.

    `slots` has, for each run that goes on at a time, its GPUs as CUDA_VISIBLE_DEVICES names them; None for no own ones.
    """

    def __init__(self, slots: Sequence[str | None], threads: int | None = None) -> None:
        self.slots = slots
        shares = len(slots) > 1 and "OMP_NUM_THREADS" not in os.environ
        self.threads = threads or (max(1, cores_of_process() // len(slots)) if shares else None)
        self._free = list(range(len(slots)))

    def room(self) -> int:
        """Return the number of slots."""
        return len(self.slots)

    def start(self, jobs: Sequence[Job]) -> Iterator[_Run]:
        """Start each process in the first free slot."""
        return map(self._start, jobs)

    def _start(self, job: Job) -> _Run:
        slot = self._free.pop(0)
        try:
            environment = run_environment(os.environ, self.slots[slot], self.threads) | dict(job.environment)
            process = start_process(job.command, job.log, environment)
        except BaseException:
            self._free.append(slot)
            raise
        return _Run(slot, process)

    def ended(self, run: _Run) -> Ended | None:
        """Return a process's exit code, and free its slot."""
        code = run.process.poll()
        if code is None:
            return None
        self.stop([run])  # what it has started
        return Ended(code)

    def stop(self, runs: Sequence[_Run]) -> None:
        """End processes and their children: by SIGTERM, then by SIGKILL."""
        end_processes([run.process for run in runs])
        self._free += [run.slot for run in runs]

    def close(self) -> None:
        """Do nothing: all runs have ended."""


def local_engine(options: SweepOptions, devices: object) -> LocalEngine:
    """Return the engine for this computer; `devices` is the value of --trainer.devices, of each run.

    Raises `UserError` for GPUs and cores that are not there, and more workers than they have room for.
    """
    count = torch.cuda.device_count()
    visible = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    available = {str(number): (visible or list(map(str, range(count))))[number] for number in range(count)}
    gpus, cores = options.gpu_numbers or list(available), cores_of_process()
    if not set(gpus) <= available.keys():
        allowed = f"allowed are {', '.join(available)}" if available else "torch finds no GPU here; leave it out"
        raise UserError(f"--gpus {options.gpus}: {allowed}.")
    share = options.gpus_of_run(devices) if gpus or options.gpus_per_run else 0.0
    if share > len(gpus):
        has = (
            f"this computer has {len(gpus)} for the sweep; give at most these, or"
            if gpus
            else "torch finds no GPU here;"
        )
        raise UserError(f"--gpus_per_run {share:g}: {has} leave it out.")
    if (options.cpus_per_run or 1) > cores:
        raise UserError(f"--cpus_per_run {options.cpus_per_run}: this computer has {cores}; give at most these.")
    if options.cpus_per_run and (options.workers or 1) * options.cpus_per_run > cores:
        asked = f"--workers {options.workers}, each with --cpus_per_run {options.cpus_per_run}"
        raise UserError(f"{asked}: this computer has {cores} cores; give fewer of either.")
    shares = _shares([available[gpu] for gpu in gpus], share) if share else []
    room = len(shares) or max(1, cores // options.cpus_per_run if options.cpus_per_run else 1)
    workers = options.workers or room
    if shares and workers > room:
        fits = f"{len(gpus)} GPUs with --gpus_per_run {share:g} have room for {room}"
        raise UserError(f"--workers {workers}: {fits}; give more of --gpus, or fewer GPUs per run.")
    return LocalEngine(shares[:workers] or [None] * workers, options.cpus_per_run)


def _shares(gpus: Sequence[str], share: float) -> list[str | None]:
    """Divide GPUs among runs: `share` of them for each, the first runs on different ones."""
    if share < 1:
        return [gpu for _ in range(int(1 / share)) for gpu in gpus]
    size = int(share)
    return [",".join(gpus[start : start + size]) for start in range(0, len(gpus) - size + 1, size)]
