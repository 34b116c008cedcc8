"""Inference throughput of several models, measured side by side."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.benchmark import Timer

Name = TypeVar("Name", bound=Hashable)
Progress = Callable[[str, int, int], None]  # what is done, how many are done, of how many

_MOST_WARM_UPS = 10
_FASTER = 0.9  # a model that takes less than this share of the time before is still warming up


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
        low, high = np.quantile(self.rounds, (0.25, 0.75))
        return float(low), float(high)


@torch.inference_mode()
def images_per_second(
    models: Mapping[Name, nn.Module],
    images: Tensor | Mapping[Name, Tensor],
    rounds: int = 7,
    seconds: float = 0.3,
    progress: Progress | None = None,
) -> dict[Name, Rate]:
    """Measure all models in one process, in turns: what slows the machine down for a while, slows all of them.

    The order of a round begins one model later than that of the round before.

    Args:
        models: By name, in evaluation mode, on the images' device.
        images: A batch `(B, 3, S, S)` for all models, or one for each by name.
        rounds: Rounds, in each of which every model is measured once.
        seconds: Least time of one measurement.
        progress: Told of every measurement.
    """
    batches = {name: images if isinstance(images, Tensor) else images[name] for name in models}
    timers = {name: _timer(model, batches[name]) for name, model in models.items()}
    for timer in timers.values():
        _warm_up(timer)
    order, found = deque(models), {name: list[float]() for name in models}
    for turn in range(rounds):
        for done, name in enumerate(order, start=1):
            taken = timers[name].blocked_autorange(min_run_time=seconds).median
            found[name].append(len(batches[name]) / taken)
            if progress is not None:
                progress(f"measuring, round {turn + 1} of {rounds}", turn * len(order) + done, rounds * len(order))
        order.rotate(-1)
    return {name: Rate(tuple(rates)) for name, rates in found.items()}


def _timer(model: nn.Module, images: Tensor) -> Timer:
    """A clock of one forward pass; it waits for a GPU to finish."""
    return Timer("model(images)", globals={"model": model, "images": images}, num_threads=torch.get_num_threads())


def _warm_up(timer: Timer) -> None:
    """Call until it gets no faster: libraries choose their algorithms, memory is taken, clocks rise."""
    before = math.inf
    for _ in range(_MOST_WARM_UPS):
        taken = timer.timeit(1).median  # calls three times, and times the last one
        if taken > _FASTER * before:
            return
        before = taken
