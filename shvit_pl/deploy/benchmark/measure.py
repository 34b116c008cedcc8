"""Building the cells of a benchmark and measuring them, the cells of a group in turns."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import torch
from rich.progress import TextColumn
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from shvit_pl.compat import allocations, limited_recompiles
from shvit_pl.deploy.benchmark.cells import ONNX, Cell, Deployed, Group, deployed, inference_call
from shvit_pl.deploy.benchmark.options import BenchmarkOptions
from shvit_pl.deploy.benchmark.train_step import TrainStep
from shvit_pl.deploy.measuring import short_reason
from shvit_pl.deploy.passes import at_size
from shvit_pl.deploy.timing import Rate, Work, side_by_side, wait_for
from shvit_pl.designs.cost import Cost
from shvit_pl.display.terminal import Bars
from shvit_pl.errors import UserError
from shvit_pl.models.open_network import OpenedNetwork

PEAK_OF = {
    "cuda": "taken from the GPU for the network and one call, its CUDA graph too; images and other networks left out",
    "cpu": "allocated by torch in one call; weights, images and the libraries' own buffers left out",
}


class CannotRunError(RuntimeError):
    """The reason why something can't be measured, in one short line."""

    what: str
    """A cell, or a network at an image size that it can't take."""

    def __init__(self, what: str, error: Exception) -> None:
        super().__init__(short_reason(error))
        self.what = what


@dataclass(frozen=True)
class Built:
    """A cell to be timed."""

    work: Work
    """One forward pass, or one step of training."""
    memory: int | None
    """Peak memory in bytes, as in `PEAK_OF`; None where the device has no such number."""
    cost: Cost
    """Parameters and MACs."""
    folded: str
    """The way the network was fused, in words."""


@dataclass(frozen=True)
class Measured:
    """A measured cell."""

    cell: Cell
    """What was measured."""
    group: Group
    """The group in which it took turns."""
    rate: Rate
    """Images per second in every block."""
    ratio: float
    """The median over the median of the group's first cell."""
    built: Built
    """Memory, cost and fusing."""


class Steps(Bars):
    """A progress bar of everything that is built and measured, and lines of what is skipped.

    Args:
        groups: The cells.
        options: The flags.
    """

    def __init__(self, groups: Sequence[Group], options: BenchmarkOptions) -> None:
        super().__init__(TextColumn("{task.fields[now]}"))
        self._measurements = options.rounds
        self._total = sum(len(group.cells) for group in groups) * (1 + self._measurements)
        self._bar = self._bars.add_task("benchmark", total=self._total, now="")

    def build(self, what: str) -> None:
        """Advance by one step, in which something is built."""
        self.begins(f"building {what}")
        self.measure(f"building {what}")

    def measure(self, what: str, *_: int) -> None:
        """Advance by one step, in which something is measured."""
        self._bars.update(self._bar, advance=1, now=what)

    def leave_out(self, cells: int) -> None:
        """Subtract cells that will not be measured."""
        self._total -= cells * self._measurements
        self._bars.update(self._bar, total=self._total)


class Builder:
    """A builder of cells, one by one.

    Args:
        opened: The networks by name.
        device: The device that computes.
        train: Build steps of training instead of forward passes.
    """

    def __init__(self, opened: Mapping[str, OpenedNetwork], device: torch.device, train: bool) -> None:
        self.opened = opened
        self.device = device
        self.train = train
        self.deployed = cache(self._deployed)
        self.images = cache(self._images)

    def build(self, cell: Cell) -> Built:
        """Build a cell and run it once.

        Raises:
            CannotRunError: where that fails: networks, compilers and devices have errors of their own.
        """
        network = self.deployed(cell.model, cell.pixels)
        try:
            self.images(cell.batch, cell.pixels)  # before memory is watched
            memory = PeakMemory(self.device)
            call = self._call(cell, network)
            call()
            peak = None if cell.runtime == ONNX else memory.of(call) or None  # torch sees none of ONNX Runtime's
        except Exception as error:
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
            raise CannotRunError(str(cell), error) from error
        folded = "not fused" if self.train else network.folded
        return Built(Work(call, cell.batch, self.device), peak, network.cost, folded)

    def _call(self, cell: Cell, network: Deployed) -> Callable[[], Tensor]:
        images = self.images(cell.batch, cell.pixels)
        if self.train:
            return TrainStep(cell, at_size(self.opened[cell.model], cell.pixels), images)
        return inference_call(cell, network.model, images)

    def _deployed(self, name: str, pixels: int) -> Deployed:
        try:
            return deployed(self.opened[name], pixels)
        except Exception as error:  # models of timm refuse images with errors of their own
            raise CannotRunError(f"{name}, {pixels} px", error) from error

    def _images(self, batch: int, pixels: int) -> Tensor:
        return torch.randn(batch, 3, pixels, pixels).to(self.device)


class PeakMemory:
    """The peak memory of one call, measured apart from its timing; create it before the network is built.

    Args:
        device: The device that computes.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._before = 0
        if device.type == "cuda":
            torch.cuda.empty_cache()
            self._before = torch.cuda.memory_reserved(device)

    def of(self, call: Callable[[], object]) -> int | None:
        """Return bytes as in `PEAK_OF`; None where the device has no such number."""
        if self.device.type == "cuda":
            torch.cuda.empty_cache()  # the memory of a CUDA graph shows only in what is reserved
            torch.cuda.reset_peak_memory_stats(self.device)
            call()
            torch.cuda.synchronize(self.device)
            return torch.cuda.max_memory_reserved(self.device) - self._before
        return _allocated_at_peak(call) if self.device.type == "cpu" else None


def _allocated_at_peak(call: Callable[[], object]) -> int:
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # else the profiler warns that there is no GPU
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        call()
    held = peak = 0
    for change in allocations(profiler):
        held += change
        peak = max(peak, held)
    return peak


def measure(
    groups: Sequence[Group], builder: Builder, options: BenchmarkOptions, steps: Steps
) -> tuple[list[Measured], dict[str, str]]:
    """Measure all groups, one after the other.

    Returns:
        The measured cells, and the reasons why others could not be measured, by cell or network.

    Raises:
        UserError: where no cell could be measured.
    """
    measured: list[Measured] = []
    skipped: dict[str, str] = {}
    for group in groups:
        try:
            measured += _measure_group(group, builder, options, steps, skipped)
        finally:
            builder.images.cache_clear()
            torch.compiler.reset()  # frees compiled networks
            gc.collect()
    if not measured:
        what, reason = next(iter(skipped.items()))
        raise UserError(f"nothing could be measured: {what}: {reason}")
    return measured, skipped


def _measure_group(
    group: Group, builder: Builder, options: BenchmarkOptions, steps: Steps, skipped: dict[str, str]
) -> list[Measured]:
    with limited_recompiles(len(group.cells) + 8):  # else torch runs further networks eagerly, and only warns
        built = _built(group, builder, steps, skipped)
        steps.leave_out(len(group.cells) - len(built))
        rates = _timed(built, options, steps)
    first = next(iter(rates.values())).median if rates else 1.0
    return [Measured(cell, group, rate, rate.median / first, built[cell]) for cell, rate in rates.items()]


def _built(group: Group, builder: Builder, steps: Steps, skipped: dict[str, str]) -> dict[Cell, Built]:
    built = {}
    for cell in group.cells:
        steps.build(str(cell))
        try:
            built[cell] = builder.build(cell)
        except CannotRunError as error:
            if error.what not in skipped:
                steps.say(f"skipped: {error.what}: {error}")
            skipped[error.what] = str(error)
    return built


def _timed(built: Mapping[Cell, Built], options: BenchmarkOptions, steps: Steps) -> dict[Cell, Rate]:
    work = {cell: item.work for cell, item in built.items()}
    if options.protocol == "interleaved":
        return side_by_side(work, options.rounds, options.block_seconds, steps.measure)
    rates = {}
    for cell, item in work.items():
        steps.measure(f"measuring {cell}")
        rates[cell] = officially_timed(item, options.warm_up_seconds or 0.0, options.block_seconds)
    return rates


def officially_timed(work: Work, warm_up: float, seconds: float) -> Rate:
    """Time as `speed_test.py` of the official code does: batch size over the mean time of a batch.

    Args:
        work: The call; the device is waited for after every one.
        warm_up: Seconds of warm-up; the script has 10.
        seconds: Seconds of batches; the script has 60.
    """
    start = time.time()
    while time.time() - start < warm_up:
        work.call()
    wait_for(work.device)
    taken, count = 0.0, 0
    while taken < seconds:
        start = time.time()
        work.call()
        wait_for(work.device)
        taken += time.time() - start
        count += 1
    return Rate((work.images * count / taken,))
