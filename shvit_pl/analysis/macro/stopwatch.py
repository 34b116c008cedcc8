"""The time of the parts of a forward pass, by hooks."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from shvit_pl.analysis.macro.places import Place, watched
from shvit_pl.analysis.running import Ready, in_turns
from shvit_pl.models import SHViT

Moment = float | torch.cuda.Event


@dataclass(frozen=True)
class TimeShare:
    """A place's share of the time: the median over the passes, all of them scaled to a sum of 1.

    Attributes:
        share: From 0 to 1.
        quartiles: Where the middle half of the passes lies, scaled likewise.
    """

    share: float
    quartiles: tuple[float, float]


def time_shares(networks: Sequence[Ready], repeats: int) -> list[dict[Place, TimeShare]]:
    """Time the places of all networks, pass by pass in turns.

    Args:
        networks: Of ours.
        repeats: Passes of each.
    """
    return [_shares(found) for found in in_turns(networks, repeats, seconds_of_places)]


def seconds_of_places(network: Ready) -> dict[Place, float]:
    """Seconds of each place in one pass: by CUDA events on a GPU, else by the wall clock."""
    assert isinstance(network.model, SHViT)
    with watched(network.model, _clock(network.device)) as moments:
        network.call()
    seconds: dict[Place, float] = {}
    for place, start, end in moments:
        seconds[place] = seconds.get(place, 0.0) + _between(start, end)
    return seconds


def _clock(device: torch.device) -> Callable[[], Moment]:
    if device.type != "cuda":
        return time.perf_counter

    def now() -> torch.cuda.Event:
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record(torch.cuda.current_stream(device))
        return event

    return now


def _between(start: Moment, end: Moment) -> float:
    if isinstance(start, float) or isinstance(end, float):
        return float(end) - float(start)  # type: ignore[arg-type]
    return start.elapsed_time(end) / 1000


def _shares(passes: Sequence[Mapping[Place, float]]) -> dict[Place, TimeShare]:
    table = np.array([list(seconds.values()) for seconds in passes])
    shares = table / table.sum(axis=1, keepdims=True)
    low, median, high = np.quantile(shares, (0.25, 0.5, 0.75), axis=0) / np.median(shares, axis=0).sum()
    found = zip(passes[0], low.tolist(), median.tolist(), high.tolist(), strict=True)
    return {place: TimeShare(share, (first, third)) for place, first, share, third in found}
