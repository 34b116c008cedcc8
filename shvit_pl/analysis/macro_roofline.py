"""Cost of each part of a design: MACs and receptive field in closed form, bytes operator by operator, and time."""

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np
import torch

from shvit_pl.analysis.study import ReadyNetwork, in_turns
from shvit_pl.deploy.timing import Rate, counted_bytes, images_per_second
from shvit_pl.designs.cost import MIXING, Operation, Part, cost_parts
from shvit_pl.designs.design import Design
from shvit_pl.models import SHViT

Place = tuple[str, Operation]  # a stage, as `cost_parts` names it, and an operation
Quartiles = tuple[float, float, float]  # the median in the middle
Reading = TypeVar("Reading")


@dataclass(frozen=True)
class Peaks:
    """The device's limits, as measured."""

    flops: float
    """FLOP/s of a large matrix product in the number type."""
    bytes: float
    """Bytes/s of a large copy, read and written."""

    @property
    def ridge(self) -> float:
        """FLOP per byte from which on the product is the limit, not the memory."""
        return self.flops / self.bytes

    def roof(self, intensity: float) -> float:
        """Return the FLOP/s that the device allows at a number of FLOP per byte."""
        return min(self.flops, self.bytes * intensity)


@dataclass(frozen=True)
class Load:
    """The work of a batch, and its time."""

    flops: int = 0
    """Floating-point operations, two for each multiply-accumulate."""
    bytes: int = 0
    """Bytes that its operators read and write."""
    seconds: float = 0.0
    """Time without instruments."""

    def __add__(self, other: "Load") -> "Load":
        return Load(self.flops + other.flops, self.bytes + other.bytes, self.seconds + other.seconds)

    @property
    def intensity(self) -> float:
        """FLOP per byte."""
        return self.flops / self.bytes

    @property
    def flops_per_second(self) -> float:
        """Achieved FLOP/s."""
        return self.flops / self.seconds


@dataclass(frozen=True)
class MeasuredPart:
    """A part of a design and its load."""

    part: Part
    receptive_field: int
    """Side in pixels of what its output sees."""
    load: Load
    shares: Quartiles
    """Its share of the time: quartiles over the passes, scaled such that the medians of all parts add up to 1."""


@dataclass(frozen=True)
class MeasuredDesign:
    """A design, part by part."""

    name: str
    design: Design
    pixels: int
    batch_size: int
    rate: Rate
    """Speed of the whole network without instruments, in images/s."""
    parts: tuple[MeasuredPart, ...]
    """Its parts, in the order in which they are computed."""

    @property
    def whole(self) -> Load:
        """Load of all parts."""
        return sum((part.load for part in self.parts), Load())

    @property
    def stages(self) -> dict[str, Load]:
        """Load of the stem, of each stage, and of the head."""
        stages = defaultdict[str, Load](Load)
        for part in self.parts:
            stages[part.part.stage] += part.load
        return stages

    @property
    def slowest(self) -> str:
        """Stage that takes most time."""
        return max(self.stages.items(), key=lambda stage: stage[1].seconds)[0]


def measure(networks: Sequence[ReadyNetwork], repeats: int) -> list[MeasuredDesign]:
    """Count and measure networks of ours, whose measurements take turns; parts are timed in `repeats` passes."""
    models = {network.name: network.model for network in networks}
    rates = images_per_second(models, {network.name: network.images for network in networks})
    designs = []
    for network, shares in zip(networks, time_shares(networks, repeats), strict=True):
        assert isinstance(network.opened.model, SHViT)
        design, batch, rate = network.opened.model.design, len(network.images), rates[network.name]
        fields, moved, parts = receptive_fields(design, network.pixels), bytes_of_places(network), []
        for part in cost_parts(design, network.opened.model.num_classes, network.pixels):
            place = part.stage, part.operation
            load = Load(2 * part.cost.macs * batch, moved[place], shares[place][1] * batch / rate.median)
            parts.append(MeasuredPart(part, fields[place], load, shares[place]))
        designs.append(MeasuredDesign(network.name, design, network.pixels, batch, rate, tuple(parts)))
    return designs


# ---- places: stages and operations of a network, watched by hooks


def places(model: torch.nn.Module) -> dict[str, Place]:
    """Return the place of each module that a forward pass of a `SHViT` calls, by its name; together they are all."""
    assert isinstance(model, SHViT)
    found: dict[str, Place] = {"patch_embed": ("stem", "stem")}
    for number, (depth, mixer) in enumerate(zip(model.design.depth, model.design.mixers, strict=True)):
        stage = f"stage {number + 1}"
        found[f"stages.{number}.downsample"] = stage, "downsampling"
        for block in range(depth):
            name = f"stages.{number}.blocks.{block}"
            found |= {f"{name}.conv": (stage, "depthwise"), f"{name}.ffn": (stage, "ffn")}
            if mixer != "conv":
                found[f"{name}.mixer"] = stage, MIXING[mixer]
    found |= dict.fromkeys(("global_pool", "flatten", "head"), ("head", "head"))
    return {
        name: place for name, place in found.items() if not isinstance(model.get_submodule(name), torch.nn.Identity)
    }


@contextmanager
def watched(model: torch.nn.Module, read: Callable[[], Reading]) -> Iterator[list[tuple[Place, Reading, Reading]]]:
    """Read a clock or a counter where a place begins and where it ends, in every forward pass meanwhile."""
    readings: list[tuple[Place, Reading, Reading]] = []
    starts: list[Reading] = []

    def begin(*_: object) -> None:
        starts.append(read())

    def end(place: Place, *_: object) -> None:
        readings.append((place, starts.pop(), read()))

    with ExitStack() as hooks:
        for name, place in places(model).items():
            module = model.get_submodule(name)
            hooks.enter_context(module.register_forward_pre_hook(begin))
            hooks.enter_context(module.register_forward_hook(partial(end, place)))
        yield readings


def bytes_of_places(network: ReadyNetwork) -> Mapping[Place, int]:
    """Return the bytes that each place reads and writes in one pass, as `counted_bytes` counts."""
    with counted_bytes() as moved_so_far, watched(network.model, moved_so_far) as readings:
        network.model(network.images)
    moved = Counter[Place]()
    for place, before, after in readings:
        moved[place] += after - before
    return moved


def time_shares(networks: Sequence[ReadyNetwork], repeats: int) -> list[dict[Place, Quartiles]]:
    """Time the places of all networks of ours, pass by pass in turns; return their shares of the time."""
    results = []
    for passes in in_turns(networks, repeats, seconds_of_places):
        table = np.array([list(seconds.values()) for seconds in passes])  # (passes, places)
        shares = table / table.sum(axis=1, keepdims=True)
        quartiles = np.quantile(shares, (0.25, 0.5, 0.75), axis=0) / np.median(shares, axis=0).sum()  # (3, places)
        results.append(dict(zip(passes[0], map(tuple, quartiles.T.tolist()), strict=True)))
    return results


def seconds_of_places(network: ReadyNetwork) -> Mapping[Place, float]:
    """Return the seconds of each place in one pass: by CUDA events on a GPU, else by the wall clock."""
    with watched(network.model, lambda: _now(network.images.device)) as moments:
        network.call()
    seconds: dict[Place, float] = defaultdict(float)
    for place, start, end in moments:
        seconds[place] += end - start if isinstance(start, float) else start.elapsed_time(end) / 1000
    return seconds


def _now(device: torch.device) -> Any:
    if device.type != "cuda":
        return time.perf_counter()
    event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
    event.record(torch.cuda.current_stream(device))
    return event


# ---- receptive fields

_KERNEL = 3  # side of all convolutions that are not 1x1


def receptive_fields(design: Design, image_size: int) -> dict[Place, int]:
    """Return the side in pixels of what each operation's output sees, the last one of its stage, at most the image's.

    A convolution of kernel k adds k - 1 positions of its input; attention sees all positions, so from its first one on
    it is the image. The gates of squeeze-and-excitation, one number per channel, are left out.
    """
    fields: dict[Place, int] = {}
    field, step = 1, 1

    def widen(place: Place, *strides: int) -> None:
        """Widen the field by 3x3 convolutions of these strides, and record it."""
        nonlocal field, step
        for stride in strides:
            field += (_KERNEL - 1) * step
            step *= stride
        if place[1] in ("attention", "head"):
            field = image_size
        fields[place] = min(field, image_size)

    widen(("stem", "stem"), *(2 for _ in design.stem_dim))
    for number, (depth, mixer) in enumerate(zip(design.depth, design.mixers, strict=True), start=1):
        stage = f"stage {number}"
        if number > 1:
            widen((stage, "downsampling"), 1, 2, 1)
        for _ in range(depth):
            if mixer == "conv" or design.local_conv:
                widen((stage, "depthwise"), 1)
            if mixer != "conv":
                widen((stage, MIXING[mixer]))
            widen((stage, "ffn"))
    widen(("head", "head"))
    return fields
