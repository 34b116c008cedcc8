"""The worker processes of a driver, and what each may use: a GPU, and its share of the CPU's cores."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from shvit_pl.cores import cores_of_process
from shvit_pl.errors import UserError
from shvit_pl.sweep.engine.folder import LOGS
from shvit_pl.sweep.engine.worker import WorkerSpec
from shvit_pl.sweep.options import Options
from shvit_pl.sweep.processes import is_of_this_machine, start_child

_PATIENCE = 30.0  # seconds for a worker to end its run
_SOON = 5.0  # seconds after which a worker that ends has at least begun
_MOST_FALSE_STARTS = 5


def workers_and_gpus(options: Options, devices: object) -> tuple[int, list[str]]:
    """Return the number of workers, and the GPUs that are handed out to them, as CUDA_VISIBLE_DEVICES names them.

    Args:
        options: The flags of `sweep`.
        devices: Value of --trainer.devices, of each run.

    Raises:
        UserError: for GPUs that are not there, and more workers than they have room for.
    """
    available = {str(number): name for number, name in enumerate(_visible_gpus())}
    if str(devices) not in ("auto", "1", "-1"):
        if (options.workers or 1) > 1 or options.gpus is not None:
            raise UserError(
                f"--trainer.devices {devices}: each run takes several devices; leave out --workers and --gpus."
            )
        return 1, []
    gpus = options.gpu_numbers or list(available)
    for gpu in gpus:
        if gpus.count(gpu) > 1:
            raise UserError(f"--gpus {options.gpus}: {gpu} is there twice; --per_gpu 2 gives it two workers.")
        if gpu not in available:
            allowed = f"allowed are {', '.join(available)}" if available else "torch finds no GPU here; leave it out"
            raise UserError(f"--gpus {options.gpus}: {allowed}.")
    room = max(1, len(gpus) * options.per_gpu)
    if gpus and (options.workers or 1) > room:
        raise UserError(
            f"--workers {options.workers}: {len(gpus)} GPUs with --per_gpu {options.per_gpu} have room for {room}; "
            "give more of --gpus, or a larger --per_gpu."
        )
    return options.workers or room, [available[gpu] for gpu in gpus]


def slots_for(workers: int, gpus: Sequence[str]) -> list[str | None]:
    """Return the GPU of each worker, handed out one by one; None where there is none to hand out."""
    return [gpus[number % len(gpus)] if gpus else None for number in range(workers)]


def _visible_gpus() -> list[str]:
    """Return the names of the GPUs that torch numbers from 0: where the environment picks some, it names them."""
    import torch  # a running pool does without

    count = torch.cuda.device_count()
    named = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    return (named or [str(number) for number in range(count)])[:count]


def worker_environment(gpu: str | None, workers: int, environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a worker's runs.

    Args:
        gpu: Its GPU, if it gets one of its own.
        workers: How many share the CPU.
        environment: The driver's own.
    """
    # of SLURM's, a run would conclude that it is one of many processes of one training
    kept = {name: value for name, value in environment.items() if not name.startswith(("SLURM_", "PMI"))}
    kept["PYTHONUNBUFFERED"] = "1"
    if workers > 1 and "OMP_NUM_THREADS" not in kept:
        kept["OMP_NUM_THREADS"] = str(max(1, cores_of_process() // workers))
    if gpu is not None:
        kept["CUDA_VISIBLE_DEVICES"] = gpu
    return kept


class Pool:
    """Keeps so many workers alive, and ends them all.

    Args:
        spec: The settings of each.
        slots: One worker each, with its GPU.
    """

    def __init__(self, spec: WorkerSpec, slots: Sequence[str | None]) -> None:
        self.spec = spec
        self.slots = slots
        self._workers: dict[int, tuple[subprocess.Popen[bytes], float]] = {}
        self._false_starts = 0

    def __enter__(self) -> Pool:
        """Return the pool, in which no worker runs yet."""
        return self

    def __exit__(self, *_: Any) -> None:
        """End all workers, and so their runs."""
        for worker, _since in self._workers.values():
            with suppress(ProcessLookupError):
                worker.terminate()
        until = time.monotonic() + _PATIENCE
        for worker, _since in self._workers.values():
            try:
                worker.wait(max(0.1, until - time.monotonic()))
            except (subprocess.TimeoutExpired, KeyboardInterrupt):
                worker.kill()
                worker.wait()

    def owns(self, owner: Mapping[str, Any]) -> bool:
        """Return whether the owner of a trial is one of these workers."""
        pids = [worker.pid for worker, _since in self._workers.values()]
        return owner.get("pid") in pids and is_of_this_machine(owner)

    def keep(self, wanted: int) -> None:
        """Start workers in the free slots, up to so many; raises `UserError` where they end as soon as they begin."""
        for number, (worker, since) in list(self._workers.items()):
            code = worker.poll()
            if code is not None:
                del self._workers[number]
                ended_itself = code > 0 and time.monotonic() - since < _SOON  # one that was killed may well have begun
                self._false_starts = self._false_starts + 1 if ended_itself else 0
        if self._false_starts > _MOST_FALSE_STARTS:
            raise UserError(f"--workers: none stays alive; see {self._log(0).parent}/worker-*.log.")
        for number in range(min(wanted, len(self.slots))):
            if number not in self._workers:
                self._workers[number] = (self._start(number), time.monotonic())

    def _start(self, number: int) -> subprocess.Popen[bytes]:
        log = self._log(number)
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("w") as file:
            command = [sys.executable, "-m", "shvit_pl.sweep.engine.worker", self.spec.as_json()]
            return start_child(command, file, worker_environment(self.slots[number], len(self.slots), os.environ))

    def _log(self, number: int) -> Path:
        return Path(self.spec.folder) / LOGS / f"worker-{number}.log"
