"""What each part of a design costs, counted and measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from shvit_pl.analysis.macro.places import Place, watched
from shvit_pl.analysis.macro.receptive import receptive_fields
from shvit_pl.analysis.macro.stopwatch import TimeShare, time_shares
from shvit_pl.analysis.running import Ready
from shvit_pl.deploy.timing import images_per_second
from shvit_pl.deploy.traffic import Traffic
from shvit_pl.designs.cost import Part, cost_parts
from shvit_pl.designs.design import Design
from shvit_pl.models import SHViT


@dataclass(frozen=True)
class Peaks:
    """What the device does at most, as measured.

    Attributes:
        flops: FLOP/s of a large matrix product in the dtype.
        bytes: Bytes/s of a large copy, read and written.
    """

    flops: float
    bytes: float

    @property
    def ridge(self) -> float:
        """FLOP per byte from which on the product is the limit, not the memory."""
        return self.flops / self.bytes

    def roof(self, intensity: float) -> float:
        """FLOP/s that the device allows at a number of FLOP per byte."""
        return min(self.flops, self.bytes * intensity)


@dataclass(frozen=True)
class Load:
    """The work of a batch, and its time.

    Attributes:
        flops: Two for each multiply-accumulate.
        bytes: Read and written by its operators.
        seconds: Without instruments.
    """

    flops: int
    bytes: int
    seconds: float

    def __add__(self, other: Load) -> Load:
        return Load(self.flops + other.flops, self.bytes + other.bytes, self.seconds + other.seconds)

    @property
    def intensity(self) -> float:
        """FLOP per byte."""
        return self.flops / self.bytes

    @property
    def flops_per_second(self) -> float:
        """Achieved."""
        return self.flops / self.seconds


@dataclass(frozen=True)
class MeasuredPart:
    """A part of a design and its load.

    Attributes:
        part: As `cost_parts` gives it.
        receptive_field: Side in pixels.
        load: Of a batch.
        time: Its share.
    """

    part: Part
    receptive_field: int
    load: Load
    time: TimeShare


@dataclass(frozen=True)
class Study:
    """A design, part by part.

    Attributes:
        name: As it was given.
        design: Its design.
        batch_size: Images per batch.
        images_per_second: Of the whole network, without instruments: median and quartiles.
        parts: In the order in which they are computed.
    """

    name: str
    design: Design
    batch_size: int
    images_per_second: tuple[float, float, float]
    parts: tuple[MeasuredPart, ...]

    @property
    def whole(self) -> Load:
        """Of all parts."""
        return sum((part.load for part in self.parts), Load(0, 0, 0.0))

    @property
    def stages(self) -> dict[str, Load]:
        """Stage by stage: the stem, the stages, the head."""
        names = dict.fromkeys(each.part.stage for each in self.parts)
        return {
            name: sum((each.load for each in self.parts if each.part.stage == name), Load(0, 0, 0.0)) for name in names
        }

    def slowest(self) -> str:
        """The stage that takes most time."""
        stages = self.stages
        return max(stages, key=lambda name: stages[name].seconds)


def study(networks: Sequence[Ready], repeats: int) -> list[Study]:
    """Count and measure networks of ours; their measurements take turns.

    Args:
        networks: On the device.
        repeats: Passes whose parts are timed.
    """
    models = {each.opened.name: each.model for each in networks}
    rates = images_per_second(models, {each.opened.name: each.images for each in networks})
    shares = time_shares(networks, repeats)
    found = []
    for network, share in zip(networks, shares, strict=True):
        assert isinstance(network.opened.model, SHViT)
        rate, design = rates[network.opened.name], network.opened.model.design
        parts = _parts(network, network.opened.model, share, len(network.images) / rate.median)
        found.append(Study(network.opened.name, design, len(network.images), (rate.median, *rate.quartiles), parts))
    return found


def _parts(network: Ready, model: SHViT, shares: dict[Place, TimeShare], seconds: float) -> tuple[MeasuredPart, ...]:
    fields = receptive_fields(model.design, network.pixels)
    moved = bytes_of_places(network)
    parts = []
    for part in cost_parts(model.design, model.num_classes, network.pixels):
        place = part.stage, part.operation
        load = Load(2 * part.cost.macs * len(network.images), moved[place], shares[place].share * seconds)
        parts.append(MeasuredPart(part, fields[place], load, shares[place]))
    return tuple(parts)


def bytes_of_places(network: Ready) -> dict[Place, int]:
    """Bytes that each place reads and writes in one pass, as `Traffic` counts them."""
    assert isinstance(network.model, SHViT)
    with torch.no_grad(), Traffic() as traffic, watched(network.model, lambda: traffic.bytes) as readings:
        network.model(network.images)
    moved: dict[Place, int] = {}
    for place, before, after in readings:
        moved[place] = moved.get(place, 0) + after - before
    return moved
