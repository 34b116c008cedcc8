"""Images per second of several models, measured in turns, and what the device can do at most.

`torch.utils.benchmark.Timer` neither takes turns nor uses a GPU's own events, which time a GPU's blocks here.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

Name = TypeVar("Name", bound=Hashable)
Progress = Callable[[str, int, int], None]  # the present step, steps done, steps in all

_MAX_WARM_UPS = 10
_FASTER = 0.9  # a block that takes less than this share of the one before is still warming up
_FIRST_CALLS = 3
_MATRIX_SIDE = {"cuda": 8192}  # of `peaks`; a GPU needs larger matrices to be busy
_SMALL_SIDE = 2048
_COPIED_NUMBERS = 2**26  # far more than any cache holds


@dataclass(frozen=True)
class Rate:
    """Images per second in every round."""

    rounds: tuple[float, ...]

    @property
    def median(self) -> float:
        """The median over the rounds."""
        return float(np.median(self.rounds))

    @property
    def quartiles(self) -> tuple[float, float]:
        """The lower and the upper quartile of the rounds."""
        return quartiles(self.rounds)


def quartiles(values: ArrayLike) -> tuple[float, float]:
    """Return the lower and the upper quartile."""
    low, high = np.quantile(np.asarray(values), (0.25, 0.75))
    return float(low), float(high)


@dataclass(frozen=True)
class Work:
    """A call to be timed."""

    call: Callable[[], object]
    """The work, done once on the device."""
    images: int
    """Images per call."""
    device: torch.device
    """The device that computes."""


@torch.inference_mode()
def images_per_second(
    models: Mapping[Name, Callable[[Tensor], object]],
    images: Tensor | Mapping[Name, Tensor],
    rounds: int = 7,
    seconds: float = 0.3,
    progress: Progress | None = None,
) -> dict[Name, Rate]:
    """Measure the forward passes of models as `side_by_side` does.

    Args:
        models: By name, in evaluation mode, on the images' device.
        images: A batch `(B, 3, S, S)` for all models, or one for each by name.
        rounds: Rounds, in each of which every model is measured once.
        seconds: Approximate time of one measurement.
        progress: Called after every measurement.
    """
    batches = {name: images if isinstance(images, Tensor) else images[name] for name in models}
    work = {name: _forward(model, batches[name]) for name, model in models.items()}
    return side_by_side(work, rounds, seconds, progress)


def _forward(model: Callable[[Tensor], object], images: Tensor) -> Work:
    return Work(lambda: model(images), len(images), images.device)


def side_by_side(
    work: Mapping[Name, Work], rounds: int = 7, seconds: float = 0.3, progress: Progress | None = None
) -> dict[Name, Rate]:
    """Measure several things in one process, in turns: a slow moment of the machine then hits all of them.

    A measurement is a block of as many calls as fill `seconds`, which waits for the device only at its end. Each round
    begins one place later than the round before.

    Args:
        work: The calls, by name.
        rounds: Rounds, in each of which everything is measured once.
        seconds: Approximate time of one measurement.
        progress: Called after every measurement.
    """
    calls = {name: max(1, math.ceil(seconds / _warm_up(item, seconds))) for name, item in work.items()}
    order, rates = deque(work), {name: list[float]() for name in work}
    for turn in range(rounds):
        for done, name in enumerate(order, start=1):
            rates[name].append(work[name].images / seconds_per_call(work[name], calls[name]))
            if progress is not None:
                progress(f"measuring, round {turn + 1} of {rounds}", turn * len(order) + done, rounds * len(order))
        order.rotate(-1)
    return {name: Rate(tuple(values)) for name, values in rates.items()}


def seconds_per_call(work: Work, calls: int) -> float:
    """Return the mean time of a block of calls: by the device's own events on CUDA, else by the wall clock."""
    if work.device.type == "cuda":
        return _by_events(work, calls)
    wait_for(work.device)
    start = time.perf_counter()
    for _ in range(calls):
        work.call()
    wait_for(work.device)
    return (time.perf_counter() - start) / calls


def wait_for(device: torch.device) -> None:
    """Wait until the device has finished its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def _by_events(work: Work, calls: int) -> float:
    with torch.cuda.device(work.device):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        torch.cuda.synchronize()
        start.record()
        for _ in range(calls):
            work.call()
        end.record()
        end.synchronize()
        return start.elapsed_time(end) / 1000 / calls


def _warm_up(work: Work, seconds: float) -> float:
    """Call until it gets no faster (libraries choose algorithms, clocks rise); return the seconds of a call."""
    before = seconds_per_call(work, _FIRST_CALLS)
    for _ in range(_MAX_WARM_UPS):
        taken = seconds_per_call(work, max(1, round(seconds / 2 / before)))
        if taken > _FASTER * before:
            return taken
        before = taken
    return before


def peaks(device: torch.device, dtype: torch.dtype) -> tuple[float, float]:
    """Return the FLOP/s of a large matrix product, and the bytes/s (read and written) of a large copy."""
    side = _MATRIX_SIDE.get(device.type, _SMALL_SIDE)
    matrix = torch.randn(side, side, device=device).to(dtype)
    source, target = (torch.zeros(_COPIED_NUMBERS, device=device) for _ in range(2))
    work = {
        "product": Work(lambda: matrix @ matrix, 1, device),
        "copy": Work(lambda: target.copy_(source), 1, device),
    }
    rates = side_by_side(work, rounds=5, seconds=0.3)
    return 2 * side**3 * rates["product"].median, 2 * source.nbytes * rates["copy"].median
