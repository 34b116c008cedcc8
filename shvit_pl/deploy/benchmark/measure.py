"""Building the cells of a benchmark and measuring them, the cells of a group in turns."""

import gc
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate

import torch
from rich.progress import TextColumn
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from shvit_pl.compat import allocations, limited_recompiles
from shvit_pl.deploy import measuring, passes, timing
from shvit_pl.deploy.benchmark import cells
from shvit_pl.deploy.options import BenchmarkOptions
from shvit_pl.designs.cost import Cost
from shvit_pl.display.terminal import Bars
from shvit_pl.errors import UserError
from shvit_pl.models.open_network import OpenedNetwork

PEAK_OF = {
    "cuda": "allocated on the GPU for the network and one call, with its CUDA graph; without images and other networks",
    "cpu": "allocated by torch in one call; without weights, images and the libraries' own buffers",
}


@dataclass(frozen=True)
class Measured:
    """A measured cell."""

    cell: cells.Cell
    """The cell that was measured."""
    rate: timing.Rate
    """Images per second in every block."""
    ratio: float
    """The median over the median of the group's first cell."""
    memory: int | None
    """Peak memory in bytes, as in `PEAK_OF`; None where the device has no such number."""
    cost: Cost
    """Parameters and MACs."""


def measure(
    groups: Sequence[cells.Group], opened: Mapping[str, OpenedNetwork], options: BenchmarkOptions, device: torch.device
) -> tuple[list[Measured], dict[str, str]]:
    """Measure all groups, one after the other, with a progress bar.

    Returns:
        The measured cells, and the reasons why others could not be measured, by cell or network.

    Raises:
        UserError: where no cell could be measured.
    """
    builder, measured = _Builder(opened, device, options.train), list[Measured]()
    with _Steps(groups, options.rounds) as steps:
        for group in groups:
            try:
                measured += _measure_group(group, builder, options, steps)
            finally:
                builder.images.cache_clear()
                torch.compiler.reset()  # frees compiled networks
                gc.collect()
    if not measured:
        what, reason = next(iter(builder.skipped.items()))
        raise UserError(f"nothing could be measured: {what}: {reason}")
    return measured, builder.skipped


class _Steps(Bars):
    """A progress bar of everything that is built and measured."""

    def __init__(self, groups: Sequence[cells.Group], rounds: int) -> None:
        super().__init__(TextColumn("{task.fields[now]}"))
        self.total = sum(map(len, groups)) * (1 + rounds)
        self._bar = self._bars.add_task("benchmark", total=self.total, now="")

    def step(self, what: str, *_: int) -> None:
        """Advance by one step, in which something is built or measured."""
        self._bars.update(self._bar, advance=1, now=what, total=self.total)


def _measure_group(group: cells.Group, builder: "_Builder", options: BenchmarkOptions, steps: _Steps) -> list[Measured]:
    built: dict[cells.Cell, tuple[timing.Work, int | None]] = {}
    with limited_recompiles(len(group) + 8):  # else torch runs further networks eagerly, and only warns
        for cell in group:
            steps.begins(f"building {cell}")
            steps.step(f"building {cell}")
            what = f"{cell.model}, {cell.image_size} px"  # a refusal of the network is printed once
            try:
                builder.deployed(cell.model, cell.image_size)
                what = str(cell)
                built[cell] = builder.build(cell)
            except Exception as error:  # networks, compilers and devices have errors of their own
                if builder.device.type == "cuda":
                    torch.cuda.empty_cache()
                if what not in builder.skipped:
                    steps.say(f"skipped: {what}: {measuring.short_reason(error)}")
                builder.skipped[what] = measuring.short_reason(error)
        steps.total -= (len(group) - len(built)) * options.rounds
        if options.protocol == "interleaved":
            all_work = {cell: work for cell, (work, _) in built.items()}
            rates = timing.side_by_side(all_work, options.rounds, options.block_seconds, steps.step)
        else:
            rates = {}
            for cell, (work, _) in built.items():
                steps.step(f"measuring {cell}")
                rates[cell] = officially_timed(work, options.warm_up_seconds, options.block_seconds)
    first = next(iter(rates.values())).median if rates else 1.0
    return [
        Measured(cell, rate, rate.median / first, built[cell][1], builder.deployed(cell.model, cell.image_size)[1])
        for cell, rate in rates.items()
    ]


class _Builder:
    """A builder of cells, one by one, and the reasons why it could not build some."""

    def __init__(self, opened: Mapping[str, OpenedNetwork], device: torch.device, train: bool) -> None:
        self.opened, self.device, self.train = opened, device, train
        self.skipped: dict[str, str] = {}
        self.deployed = cache(lambda name, pixels: cells.deployed(opened[name], pixels))
        self.images = cache(lambda batch, pixels: torch.randn(batch, 3, pixels, pixels).to(device))

    def build(self, cell: cells.Cell) -> tuple[timing.Work, int | None]:
        """Return a call of a cell that has run once, and its peak memory in bytes, as in `PEAK_OF`."""
        images = self.images(cell.batch_size, cell.image_size)  # before memory is watched
        before = reserved_memory(self.device)
        call: Callable[[], Tensor]
        if self.train:
            call = cells.TrainStep(cell, passes.at_size(self.opened[cell.model], cell.image_size), images)
        else:
            call = cells.inference_call(cell, self.deployed(cell.model, cell.image_size)[0], images)
        call()
        if cell.runtime == cells.ONNX:  # torch sees none of its memory
            return timing.Work(call, cell.batch_size, self.device), None
        return timing.Work(call, cell.batch_size, self.device), peak_memory(call, self.device, before) or None


def reserved_memory(device: torch.device) -> int:
    """Return the bytes that torch has taken from a GPU and needs; 0 elsewhere."""
    if device.type != "cuda":
        return 0
    torch.cuda.empty_cache()
    return torch.cuda.memory_reserved(device)


def peak_memory(call: Callable[[], object], device: torch.device, before: int = 0) -> int | None:
    """Return the peak memory of one call in bytes, as in `PEAK_OF`; None where the device has no such number.

    Args:
        call: The call, which is made once, apart from its timing.
        device: The device that computes.
        before: What `reserved_memory` returned before the network was built.
    """
    if device.type == "cuda":
        torch.cuda.empty_cache()  # the memory of a CUDA graph shows only in what is reserved
        torch.cuda.reset_peak_memory_stats(device)
        call()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_reserved(device) - before
    if device.type != "cpu":
        return None
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # else the profiler warns that there is no GPU
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        call()
    return max(accumulate(allocations(profiler), initial=0))


def officially_timed(work: timing.Work, warm_up: float, seconds: float) -> timing.Rate:
    """Time as `speed_test.py` of the official code does: batch size over the mean time of a batch.

    Args:
        work: The call; the device is waited for after every one.
        warm_up: Seconds of warm-up; the script has 10.
        seconds: Seconds of batches; the script has 60.
    """
    start = time.time()
    while time.time() - start < warm_up:
        work.call()
    timing.wait_for(work.device)
    taken, count = 0.0, 0
    while taken < seconds:
        start = time.time()
        work.call()
        timing.wait_for(work.device)
        taken += time.time() - start
        count += 1
    return timing.Rate((work.images * count / taken,))
