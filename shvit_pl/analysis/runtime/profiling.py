"""The time of a forward pass, operator by operator."""

from __future__ import annotations

import os
from collections import defaultdict
from typing import Any

from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from shvit_pl.analysis.running import Ready
from shvit_pl.analysis.runtime.kinds import Kind, kind_of
from shvit_pl.analysis.runtime.parts import MARK

Times = dict[tuple[str, Kind], float]  # microseconds by operator and kind


def operator_times(network: Ready) -> Times:
    """Microseconds that each operator takes itself in one pass, of those within the ranges called `MARK`.

    On a CPU that is the time in the operator without those that it calls; on a GPU that of the kernels it launches.
    """
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # it would look for a GPU, and say that there is none
    on_gpu = network.device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    with profile(activities=activities) as profiler:
        network.call()
    times: Times = defaultdict(float)
    for event in profiler.events() or []:
        if event.device_type == DeviceType.CPU and not event.is_user_annotation:
            chain = _chain(event)
            if chain and chain[-1] == MARK:
                times[event.name, kind_of(chain[:-1])] += _own_time(event, on_gpu)
    return dict(times)


def _chain(event: Any) -> list[str]:
    """The names of an operator and of its callers, outwards to the range or to the last of them."""
    names = []
    while event is not None:
        names.append(event.name)
        if event.name == MARK:
            break
        event = event.cpu_parent
    return names


def _own_time(event: Any, on_gpu: bool) -> float:
    return float(sum(kernel.duration for kernel in event.kernels) if on_gpu else event.self_cpu_time_total)
