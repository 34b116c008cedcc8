"""What several models do in a second, measured side by side."""

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
Progress = Callable[[str, int, int], None]  # what is done, how many are done, of how many

_MOST_WARM_UPS = 10
_FASTER = 0.9  # what takes less than this share of the time before is still warming up
_FIRST_CALLS = 3


@dataclass(frozen=True)
class Rate:
    """Images per second in every round."""

    rounds: tuple[float, ...]

    @property
    def median(self) -> float:
        """Half of the rounds were faster."""
        return float(np.median(self.rounds))

    @property
    def quartiles(self) -> tuple[float, float]:
        """Where the middle half of the rounds begins and ends."""
        return quartiles(self.rounds)


def quartiles(values: ArrayLike) -> tuple[float, float]:
    """Where the middle half of values begins and ends."""
    low, high = np.quantile(np.asarray(values), (0.25, 0.75))
    return float(low), float(high)


@dataclass(frozen=True)
class Work:
    """What is timed.

    Attributes:
        call: Does it once, on the device.
        images: Images per call.
        device: What computes.
    """

    call: Callable[[], object]
    images: int
    device: torch.device


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
        seconds: Least time of one measurement.
        progress: Told of every measurement.
    """
    batches = {name: images if isinstance(images, Tensor) else images[name] for name in models}
    work = {name: _forward(model, batches[name]) for name, model in models.items()}
    return side_by_side(work, rounds, seconds, progress)


def _forward(model: Callable[[Tensor], object], images: Tensor) -> Work:
    return Work(lambda: model(images), len(images), images.device)


def side_by_side(
    work: Mapping[Name, Work], rounds: int = 7, seconds: float = 0.3, progress: Progress | None = None
) -> dict[Name, Rate]:
    """Measure all in one process, in turns: what slows the machine down for a while, slows all of them.

    A measurement is a block of calls, as many as fill `seconds`; it waits for the device at its end alone. The order
    of a round begins one later than that of the round before.

    Args:
        work: By name.
        rounds: Rounds, in each of which everything is measured once.
        seconds: About the time of one measurement.
        progress: Told of every measurement.
    """
    calls = {name: max(1, math.ceil(seconds / _warm_up(each, seconds))) for name, each in work.items()}
    order, found = deque(work), {name: list[float]() for name in work}
    for turn in range(rounds):
        for done, name in enumerate(order, start=1):
            found[name].append(work[name].images / seconds_per_call(work[name], calls[name]))
            if progress is not None:
                progress(f"measuring, round {turn + 1} of {rounds}", turn * len(order) + done, rounds * len(order))
        order.rotate(-1)
    return {name: Rate(tuple(rates)) for name, rates in found.items()}


def seconds_per_call(work: Work, calls: int) -> float:
    """The mean of a block of calls: by the device's own events on CUDA, else by the wall clock."""
    if work.device.type == "cuda":
        return _by_events(work, calls)
    wait_for(work.device)
    start = time.perf_counter()
    for _ in range(calls):
        work.call()
    wait_for(work.device)
    return (time.perf_counter() - start) / calls


def wait_for(device: torch.device) -> None:
    """Return when the device has done what it was given; a CPU has."""
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
    """Call until it gets no faster: libraries choose their algorithms, memory is taken, clocks rise.

    Returns:
        Seconds of a call.
    """
    before = seconds_per_call(work, _FIRST_CALLS)
    for _ in range(_MOST_WARM_UPS):
        taken = seconds_per_call(work, max(1, round(seconds / 2 / before)))
        if taken > _FASTER * before:
            return taken
        before = taken
    return before
