"""What computes: which device it is, what it is called, in how many threads and in which type of numbers."""

from __future__ import annotations

import platform
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from shvit_pl.deploy.flags import DTYPES
from shvit_pl.errors import UserError

_ALLOWED = "allowed are auto, cpu, cuda, cuda:1 (a GPU by its number) and mps"
_NAMES = re.compile(r"cpu|mps|cuda(:(\d|[1-9]\d))?")


def chosen_device(name: str) -> torch.device:
    """The device of a name; `auto` is the GPU where there is one.

    Raises:
        UserError: for a device that is not here.
    """
    if name == "auto":
        name = next((kind for kind, there in _here().items() if there), "cpu")
    if not _NAMES.fullmatch(name):
        raise UserError(f"--device {name!r}: {_ALLOWED}.")
    device = torch.device(name)
    if device.type != "cpu" and not _here()[device.type]:
        raise UserError(f"--device {name}: torch finds no such device here; give cpu or auto.")
    if device.type == "cuda":
        return _numbered(name, device)
    return device


def _here() -> dict[str, bool]:
    return {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}


def _numbered(name: str, device: torch.device) -> torch.device:
    number = device.index or 0
    if number >= torch.cuda.device_count():
        raise UserError(f"--device {name}: here are the GPUs 0 to {torch.cuda.device_count() - 1}.")
    return torch.device("cuda", number)


def device_name(device: torch.device) -> str:
    """The name of a GPU or of the processor, without the host's."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else processor()


def processor() -> str:
    """The processor's name as Linux tells it, elsewhere its architecture."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


@contextmanager
def in_so_many_threads(asked: int | None) -> Iterator[None]:
    """Set torch's threads for a while; `None` leaves them."""
    before = torch.get_num_threads()
    torch.set_num_threads(asked or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def torch_dtype(name: str) -> torch.dtype:
    """What a flag calls fp32, bf16 or fp16."""
    dtype: torch.dtype = getattr(torch, DTYPES[name])
    return dtype
