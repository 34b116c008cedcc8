"""Which device to measure on."""

from __future__ import annotations

import re

import torch

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
