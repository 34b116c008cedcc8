"""Where and under which conditions something is measured: device, threads, number type, machine, origin.

Benchmark, macro, runtime, heads and the sweep's speed share this file, `flags` (the options), `timing` (measurements in
turns) and `output` (the folder of the results).
"""

from __future__ import annotations

import platform
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from textwrap import shorten
from typing import Any

import torch

from shvit_pl import __version__
from shvit_pl.deploy.flags import DTYPES
from shvit_pl.display.words import counted
from shvit_pl.errors import UserError, one_line

_ALLOWED = "allowed are auto, cpu, cuda, cuda:1 (a GPU by its number) and mps"
_NAMES = re.compile(r"cpu|mps|cuda(:(\d|[1-9]\d))?")
_LIBRARIES = ("timm", "triton", "onnxruntime", "numpy")
_MAX_DIFFERENCES = 3  # listed in a message
_MAX_REASON = 200  # characters


def chosen_device(name: str) -> torch.device:
    """Return the device of a name; `auto` is the GPU where there is one.

    Raises:
        UserError: for a device that is not here.
    """
    if name == "auto":
        name = next((kind for kind, available in _available().items() if available), "cpu")
    if not _NAMES.fullmatch(name):
        raise UserError(f"--device {name!r}: {_ALLOWED}.")
    device = torch.device(name)
    if device.type != "cpu" and not _available()[device.type]:
        raise UserError(f"--device {name}: torch finds no such device here; give cpu or auto.")
    if device.type != "cuda":
        return device
    if (number := device.index or 0) >= torch.cuda.device_count():
        raise UserError(f"--device {name}: here are the GPUs 0 to {torch.cuda.device_count() - 1}.")
    return torch.device("cuda", number)


def _available() -> dict[str, bool]:
    return {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}


def device_name(device: torch.device) -> str:
    """Return the name of a GPU or of the processor, without the host's."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else processor()


def processor() -> str:
    """Return the processor's name as Linux has it, elsewhere its architecture."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


@contextmanager
def num_threads(number: int | None) -> Iterator[None]:
    """Set torch's threads for a while; `None` leaves them."""
    before = torch.get_num_threads()
    torch.set_num_threads(number or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def torch_dtype(name: str) -> torch.dtype:
    """Return torch's type of fp32, bf16 or fp16."""
    dtype: torch.dtype = getattr(torch, DTYPES[name])
    return dtype


def machine(device: torch.device) -> dict[str, Any]:
    """Return the device, the threads as they are set, and the libraries."""
    on_gpu = device.type == "cuda"
    cudnn: Any = torch.backends.cudnn
    return {
        "device": device_name(device),
        "device_type": device.type,
        "processor": processor(),
        "threads": torch.get_num_threads(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "cuda": torch.version.cuda if on_gpu else None,
        "cudnn": cudnn.version() if on_gpu else None,
        "tf32": torch.backends.cuda.matmul.allow_tf32 if on_gpu else None,
        "cudnn_tf32": cudnn.allow_tf32 if on_gpu else None,
        "cudnn_benchmark": cudnn.benchmark if on_gpu else None,
        "torch": torch.__version__,
        **{name: _version(name) for name in _LIBRARIES},
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def machine_words(conditions: Mapping[str, Any]) -> str:
    """Return device, threads and torch in words, from what `machine` returns."""
    return f"{conditions['device']}, {counted(conditions['threads'], 'thread')}, torch {conditions['torch']}"


def condition_differences(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> str:
    """Return how two measurements' conditions differ, in a few words; empty where they don't.

    Args:
        ours: The conditions of this measurement, by name.
        theirs: Those of another one.
    """
    names = [name for name in {**ours, **theirs} if ours.get(name) != theirs.get(name)]
    listed = [f"{name} is {theirs.get(name)} there and {ours.get(name)} here" for name in names[:_MAX_DIFFERENCES]]
    more = [f"and {len(names) - _MAX_DIFFERENCES} more"] * (len(names) > _MAX_DIFFERENCES)
    return "; ".join([*listed, *more])


def origin(command: Sequence[str]) -> dict[str, Any]:
    """Return the command, the version and the time of a measurement."""
    time = datetime.now(UTC).isoformat(timespec="seconds")
    return {"command": list(command), "shvit_pl": __version__, "measured": time}


def is_out_of_memory(error: Exception) -> bool:
    """Return whether a GPU's memory, or that of the machine, was too small."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def short_reason(error: Exception) -> str:
    """Return an error of a network, compiler or device in one short line."""
    if is_out_of_memory(error):
        return "out of memory"
    return shorten(one_line(error), _MAX_REASON, placeholder=" ...")
