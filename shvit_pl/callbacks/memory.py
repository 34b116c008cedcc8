"""The most memory that a run has held at once."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

_STATUS = Path("/proc/self/status")


def reset_peak_memory(device: torch.device) -> None:
    """Forget what a GPU held before; the peak of a process can't be reset."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_memory(device: torch.device) -> tuple[float | None, str]:
    """Peak memory in MB (10**6 bytes), `None` where the system does not tell, and what it is the peak of."""
    if device.type == "cuda":
        return _megabytes(torch.cuda.max_memory_allocated(device)), "allocated on the GPU"
    resident = _peak_resident()
    return None if resident is None else _megabytes(resident), "resident in the process"


def _megabytes(number: int) -> float:
    return round(number / 1e6, 1)


def _peak_resident() -> int | None:
    """The process's peak resident set in bytes."""
    if _STATUS.is_file():  # on Linux, getrusage would begin with the peak of the process that started this one
        peaks = [line.split()[1] for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM:")]
        return int(peaks[0]) * 1024 if peaks else None
    try:
        import resource
    except ModuleNotFoundError:  # Windows
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
