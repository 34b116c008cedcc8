"""How many runs a sweep does at a time, and on which GPUs."""

from __future__ import annotations

import os
from collections.abc import Sequence

from shvit_pl.errors import UserError
from shvit_pl.sweep.options import Options


def workers_and_gpus(options: Options, devices: object) -> tuple[int, list[str]]:
    """How many workers, and which GPUs are handed out to them, as CUDA_VISIBLE_DEVICES names them.

    Args:
        options: As on the command line.
        devices: Of each run, as its trainer takes them.

    Raises:
        UserError: for GPUs that are not there, and more workers than they have room for.
    """
    there = {str(number): name for number, name in enumerate(_visible_gpus())}
    if str(devices) not in ("auto", "1", "-1"):
        if (options.workers or 1) > 1 or options.gpus is not None:
            raise UserError(
                f"--trainer.devices {devices}: each run takes several devices; leave out --workers and --gpus."
            )
        return 1, []
    gpus = options.gpu_numbers or list(there)
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


def slots_for(workers: int, gpus: Sequence[str]) -> list[str | None]:
    """The GPU of each worker, handed out one by one; None where there is none to hand out."""
    return [gpus[number % len(gpus)] if gpus else None for number in range(workers)]


def _visible_gpus() -> list[str]:
    """Names of the GPUs that torch numbers from 0: where the environment picks some, it names them."""
    import torch  # the pool of workers does without

    count = torch.cuda.device_count()
    named = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    return (named or [str(number) for number in range(count)])[:count]
