"""Where the time of a call goes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

_CALLS = 5
_KINDS = {  # what the names of operators and kernels contain
    "convolutions": ("conv", "fprop"),
    "matrix products": ("linear", "mm", "gemm", "cutlass"),
}


@torch.inference_mode()
def shares(call: Callable[[], Any], device: torch.device) -> dict[str, float]:
    """Shares of the time by kind of work; what is neither convolution nor product is elementwise, norms and copies."""
    activities = [ProfilerActivity.CUDA if device.type == "cuda" else ProfilerActivity.CPU]
    call()
    with profile(activities=activities) as profiler:
        for _ in range(_CALLS):
            call()
    times: Counter[str] = Counter()
    for event in profiler.key_averages():
        on_gpu = event.device_type == DeviceType.CUDA
        times[_kind(event.key)] += event.self_device_time_total if on_gpu else event.self_cpu_time_total
    whole = sum(times.values())
    return {kind: times[kind] / whole for kind in (*_KINDS, "other work")}


def _kind(name: str) -> str:
    return next((kind for kind, parts in _KINDS.items() if any(part in name for part in parts)), "other work")
