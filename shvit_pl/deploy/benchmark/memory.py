"""How much memory a call takes at its peak."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

PEAK_OF = {
    "cuda": "taken from the GPU for the network and one call, its CUDA graph too; images and other networks left out",
    "cpu": "allocated by torch in one call; weights, images and the libraries' own buffers left out",
}


class PeakMemory:
    """The peak of one call, measured apart from its timing; begin it before the network is built.

    Args:
        device: What computes.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._before = 0
        if device.type == "cuda":
            torch.cuda.empty_cache()
            self._before = torch.cuda.memory_reserved(device)

    def of(self, call: Callable[[], object]) -> int | None:
        """Bytes as in `PEAK_OF`, where the device tells."""
        if self.device.type == "cuda":
            torch.cuda.empty_cache()  # a CUDA graph keeps its own, which nothing but what is reserved tells of
            torch.cuda.reset_peak_memory_stats(self.device)
            call()
            torch.cuda.synchronize(self.device)
            return torch.cuda.max_memory_reserved(self.device) - self._before
        return _allocated_at_peak(call) if self.device.type == "cpu" else None


def _allocated_at_peak(call: Callable[[], object]) -> int:
    """Follow what torch's allocator gives and takes back."""
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # it would look for a GPU, and say that there is none
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        call()
    events: Any = profiler.profiler.kineto_results.events()
    changes = sorted((event.start_ns(), event.nbytes()) for event in events if event.name() == "[memory]")
    held = peak = 0
    for _, change in changes:
        held += change
        peak = max(peak, held)
    return peak
