"""Under which conditions was measured, and how a sentence says it."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from shvit_pl import __version__
from shvit_pl.deploy.device import device_name, processor
from shvit_pl.display.words import counted

_LIBRARIES = ("timm", "triton", "onnxruntime", "numpy")
_SHOWN = 3  # differences


def machine(device: torch.device) -> dict[str, Any]:
    """The device, the threads as they are set, and the libraries."""
    return {
        "device": device_name(device),
        "device_type": device.type,
        "processor": processor(),
        "threads": torch.get_num_threads(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "cuda": torch.version.cuda if device.type == "cuda" else None,
        "cudnn": _cudnn() if device.type == "cuda" else None,
        "tf32": torch.backends.cuda.matmul.allow_tf32 if device.type == "cuda" else None,
        "cudnn_tf32": torch.backends.cudnn.allow_tf32 if device.type == "cuda" else None,
        "cudnn_benchmark": torch.backends.cudnn.benchmark if device.type == "cuda" else None,
        "torch": torch.__version__,
        **{name: _version(name) for name in _LIBRARIES},
    }


def _cudnn() -> Any:
    return torch.backends.cudnn.version()  # type: ignore[no-untyped-call]


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def on_machine(conditions: Mapping[str, Any]) -> str:
    """Device, threads and torch, of what `machine` gives."""
    return f"{conditions['device']}, {counted(conditions['threads'], 'thread')}, torch {conditions['torch']}"


def difference(ours: Mapping[str, Any], theirs: Mapping[str, Any], told: Callable[[str, Any, Any], str]) -> str:
    """What differs between two measurements' conditions, in a few words; empty where nothing does.

    Args:
        ours: By name.
        theirs: Likewise.
        told: Says one difference, by its name, theirs and ours.
    """
    every = [name for name in {**ours, **theirs} if ours.get(name) != theirs.get(name)]
    more = [f"and {len(every) - _SHOWN} more"] * (len(every) > _SHOWN)
    return "; ".join([*(told(name, theirs.get(name), ours.get(name)) for name in every[:_SHOWN]), *more])


def origin(command: Sequence[str]) -> dict[str, Any]:
    """The command, the version and the time of a measurement."""
    written = datetime.now(UTC).isoformat(timespec="seconds")
    return {"command": list(command), "shvit_pl": __version__, "measured": written}
