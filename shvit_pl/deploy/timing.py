"""Images per second of several models, measured in turns; the device's peaks, and the bytes that a network moves.

`torch.utils.benchmark.Timer` takes no turns, and repeats at least two calls before each block: three times the work
where a block is one batch.
"""

import math
import time
import timeit
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from shvit_pl.compat import observed_operators

Name = TypeVar("Name", bound=Hashable)
Progress = Callable[[str, int, int], None]  # the present step, steps done, steps in all

_MAX_WARM_UPS = 10
_FASTER = 0.9  # a block that takes less than this share of the one before is still warming up
_FIRST_CALLS = 3
_MATRIX_SIDE = {"cuda": 8192}  # used by `peaks`; a GPU needs larger matrices to be busy
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
    device: torch.device


@torch.inference_mode()
def images_per_second(
    models: Mapping[Name, Callable[[Tensor], object]],
    images: Tensor | Mapping[Name, Tensor],
    rounds: int = 7,
    seconds: float = 0.3,
    progress: Progress | None = None,
) -> dict[Name, Rate]:
    """Measure the forward passes of models in evaluation mode as `side_by_side` does.

    `images` are a batch `(B, 3, S, S)` for all models, or one for each by name, on the models' device.
    """

    def forward(model: Callable[[Tensor], object], batch: Tensor) -> Work:
        return Work(lambda: model(batch), len(batch), batch.device)

    work = {name: forward(models[name], images if isinstance(images, Tensor) else images[name]) for name in models}
    return side_by_side(work, rounds, seconds, progress)


def side_by_side(
    work: Mapping[Name, Work], rounds: int = 7, seconds: float = 0.3, progress: Progress | None = None
) -> dict[Name, Rate]:
    """Measure several things in one process, in turns: slow phases of the machine then affect all of them.

    In each round everything is measured once: a block of as many calls as fill about `seconds`, which waits for the
    device only at its end. Each round begins one place later than the round before. `progress` is called after each.
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


def _warm_up(work: Work, seconds: float) -> float:
    """Call until it gets no faster (libraries choose algorithms, clocks rise); return the seconds of a call."""
    before = seconds_per_call(work, _FIRST_CALLS)
    for _ in range(_MAX_WARM_UPS):
        taken = seconds_per_call(work, max(1, round(seconds / 2 / before)))
        if taken > _FASTER * before:
            return taken
        before = taken
    return before


def seconds_per_call(work: Work, calls: int) -> float:
    """Return the mean time of a block of calls, between two moments at which the device is idle."""

    def now() -> float:
        wait_for(work.device)
        return time.perf_counter()

    return timeit.Timer(work.call, timer=now).timeit(calls) / calls


def wait_for(device: torch.device) -> None:
    """Wait until the device has finished its work."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def peaks(device: torch.device, dtype: torch.dtype) -> tuple[float, float]:
    """Return the FLOP/s of a large matrix product, and the bytes/s (read and written) of a large copy."""
    side = _MATRIX_SIDE.get(device.type, _SMALL_SIDE)
    matrix = torch.randn(side, side, device=device).to(dtype)
    source, target = (torch.zeros(_COPIED_NUMBERS, device=device) for _ in range(2))
    work = {"product": Work(lambda: matrix @ matrix, 1, device), "copy": Work(lambda: target.copy_(source), 1, device)}
    rates = side_by_side(work, rounds=5, seconds=0.3)
    return 2 * side**3 * rates["product"].median, 2 * source.nbytes * rates["copy"].median


@contextmanager
def counted_bytes() -> Iterator[Callable[[], int]]:
    """Count what ATen's operators read and write in the block, without gradients; yields the bytes counted so far.

    Every operator reads its input tensors and writes its output tensors: weights, feature maps, scores and products of
    attention, copies, residual additions. Views move nothing. This is the traffic if no cache keeps anything between
    two operators; copies inside an operator are not seen.
    """
    total = 0

    def count(read: list[Tensor], written: list[Tensor], is_view: bool) -> None:
        nonlocal total
        total += 0 if is_view else sum(tensor.nbytes for tensor in (*read, *written))

    with torch.no_grad(), observed_operators(count):
        yield lambda: total
