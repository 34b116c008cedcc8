"""A benchmark's cells: which networks in which ways, in groups that are compared; each built, and measured in turns."""

import gc
import os
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cache
from itertools import accumulate
from typing import Any, Literal

import torch
from rich.progress import Progress, TextColumn
from timm.loss import SoftTargetCrossEntropy
from timm.utils import ModelEmaV3, adaptive_clip_grad
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from shvit_pl.compat import allocations, limited_recompiles
from shvit_pl.deploy import formats, measuring, optimization, passes, timing
from shvit_pl.deploy.options import PAPER_BATCH, BenchmarkOptions
from shvit_pl.designs.cost import Cost, cost
from shvit_pl.display import announce, new_progress
from shvit_pl.errors import UserError, collected, refuse, visible
from shvit_pl.models import SHViT
from shvit_pl.models.open_network import OpenedNetwork
from shvit_pl.modules import optim_and_ema as optim
from shvit_pl.modules.classification import make_mixup
from shvit_pl.modules.config import EmaConfig, MixConfig, OptimConfig

ONNX = "onnx"
WHOLE = ""  # the part that is all of a network
_COMPILE_MODE = {"compiled": None, "optimized": None}  # names in torch.compile; the other modes are called as there
# the settings of the paper's training
_MIX = MixConfig(mixup=0.8, cutmix=1.0)
_EMA = EmaConfig(decay=0.99996, warmup_power=0.0)
_SMOOTHING, _WEIGHT_DECAY, _CLIP = 0.1, 0.025, 0.02
_STEPS, _EPOCHS = 1000, 300.0  # the schedule's length; every step has the learning rate of its first


@dataclass(frozen=True)
class Cell:
    """One row of the table."""

    model: str
    runtime: str
    """The program that computes: torch or onnx."""
    mode: str
    """The way to run torch; empty for onnx."""
    dtype: str
    batch_size: int
    image_size: int
    image_size_asked: int | Literal["own"] = "own"
    """The side asked for; cells of the same one, and of the same batch size, are compared."""

    def __str__(self) -> str:
        return f"{self.model}, {self.mode or self.runtime}, {self.dtype}, batch {self.batch_size}, {self.image_size} px"


Group = tuple[Cell, ...]  # measured in turns, and compared


def plan(options: BenchmarkOptions, sizes: Mapping[str, int], device: str) -> list[Group]:
    """Return the groups of a benchmark's cells, some of which may fail when they are built.

    `sizes` are the models' own image sizes, `device` is the type of the device.
    """
    official = ("fp16 autocast" if device == "cuda" and not options.train else "fp32",)
    ways = []  # runtime, mode and dtype
    for runtime in options.runtime:
        if runtime == ONNX:
            ways.append((ONNX, "", "fp32"))
        else:
            by_mode = {mode: official if mode == "official" else options.dtypes for mode in options.modes}
            ways += [("torch", mode, dtype) for mode, dtypes in by_mode.items() for dtype in dtypes]
    return [
        tuple(Cell(name, *way, batch, size or sizes[name], size or "own") for name in options.models for way in ways)
        for batch in options.batch_size or (PAPER_BATCH[device],)
        for size in options.image_size or (None,)
    ]


def check_sizes(groups: Sequence[Group], opened: Mapping[str, OpenedNetwork]) -> None:
    """Raise `UserError` where no network takes images of the sides asked for; single ones are skipped later."""
    cells, mistakes = [cell for group in groups for cell in group], list[str]()
    for cell in cells:
        with collected(mistakes):
            passes.check_size(opened[cell.model], cell.image_size)
    if len(mistakes) == len(cells):
        refuse(dict.fromkeys(mistakes))


def deployed(opened: OpenedNetwork, pixels: int) -> tuple[nn.Module, dict[str, Cost]]:
    """Return the fused network on the CPU, and its cost: of ours in closed form, BatchNorm not fused, else counted."""
    model = passes.fused(passes.at_size(opened, pixels))
    if isinstance(opened.model, SHViT):
        return model, {WHOLE: cost(opened.model.design, opened.model.num_classes, pixels, opened.in_chans)}
    counter: Any = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        model(torch.zeros(1, opened.in_chans, pixels, pixels))
    params = sum(parameter.numel() for parameter in model.parameters())
    return model, {WHOLE: Cost(params, counter.get_total_flops() // 2)}


def inference_call(cell: Cell, model: nn.Module, images: Tensor) -> Callable[[], Tensor]:
    """Return a call that makes a forward pass of a cell and returns the logits `(B, classes)`.

    The model, in evaluation mode, fused and on the CPU, stays as it is; images are `(B, 3, S, S)` in float32 and NCHW,
    on the device.
    """
    if cell.runtime == ONNX:
        session, batch = formats.onnx_network(model, images), images.cpu()
        return lambda: session(batch)
    if cell.mode == "official":
        return official_call(model, images)
    images = images.to(measuring.DTYPES[cell.dtype], memory_format=torch.channels_last)
    network: Any = deepcopy(model).to(images.device)
    if cell.mode == "optimized":
        network = optimization.optimize(network, images, images.dtype)
        images = images.contiguous(memory_format=network.layout)
    else:
        network = network.to(images.dtype).to(memory_format=torch.channels_last)
        if cell.mode != "eager":
            network = optimization.compiled(network, images, _COMPILE_MODE.get(cell.mode, cell.mode))

    @torch.inference_mode()
    def call() -> Tensor:
        return network(images)

    return call


def official_call(model: nn.Module, images: Tensor) -> Callable[[], Tensor]:
    """Return a call of the network as `speed_test.py` of the official code runs it (github.com/ysj9909/SHViT).

    It is traced and takes NCHW images: on a GPU under fp16 autocast, on a CPU in fp32. The arguments are those of
    `inference_call`.
    """
    device = images.device
    with torch.no_grad(), warnings.catch_warnings(action="ignore"):  # tracing is deprecated, but the official way
        network: Any = torch.jit.trace(deepcopy(model).to(device), images)  # type: ignore[no-untyped-call]

    def call() -> Tensor:
        with torch.no_grad(), torch.autocast("cuda", torch.float16, enabled=device.type == "cuda"):
            return network(images)

    return call


class TrainStep:
    """A whole training step per call: Mixup or CutMix, forward, backward, adaptive clipping, AdamW, moving average.

    `official` trains as the official `engine.py`: float32 in NCHW, tensor by tensor, the loss read in every step.
    `optimized` trains as `fit`: channels-last, compiled, with optimizer, clipping and average of all tensors at once.
    The other modes train as timm's script with its best flags: channels-last, its clipping and its average.

    Args:
        cell: The way to train; bf16 is autocast.
        model: The network, not fused, on the CPU; it is trained in place.
        images: A batch `(B, 3, S, S)` in float32 and NCHW, on the device.

    Raises `UserError` for a batch that can't be mixed.
    """

    def __init__(self, cell: Cell, model: nn.Module, images: Tensor) -> None:
        if len(images) % 2:
            raise UserError("Mixup and CutMix mix images in pairs, so the batch must be even")
        self.is_official = cell.mode == "official"
        self.is_ours = cell.mode == "optimized"
        self.is_bf16 = cell.dtype == "bf16"
        layout = torch.contiguous_format if self.is_official else torch.channels_last
        self.images = images.to(memory_format=layout)
        self.model = model.train().to(images.device).to(memory_format=layout)
        self.network: Any = self.model
        if cell.mode not in ("official", "eager"):
            self.network = torch.compile(self.model, dynamic=False, mode=_COMPILE_MODE.get(cell.mode, cell.mode))
        classes = int(getattr(model, "num_classes"))  # noqa: B009 (a module's attributes are typed as tensors)
        self.labels = torch.randint(classes, (len(images),), device=images.device)
        self.mixup = make_mixup(_MIX, classes, _SMOOTHING)
        self.criterion = SoftTargetCrossEntropy()
        config = OptimConfig(name="adamw", options={"foreach": False} if self.is_official else {})
        schedule = optim.make_schedule(config, len(images), _STEPS, _EPOCHS)
        self.optimizer = optim.make_optimizer(self.model, config, schedule, _WEIGHT_DECAY, fused=self.is_ours)[0]
        own = optim.make_average(_EMA, self.model) if self.is_ours else None
        self.ema = own or ModelEmaV3(self.model, decay=_EMA.decay, foreach=not self.is_official)
        self.scaler = torch.amp.GradScaler(enabled=self.is_official and images.device.type == "cuda")

    def __call__(self) -> Tensor:
        """Make one step; return the loss, a scalar."""
        assert self.mixup is not None
        images, targets = self.mixup(self.images.clone(), self.labels)  # mixed in place
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.is_bf16):
            logits = self.network(images)
        loss: Tensor = self.criterion(logits.float(), targets)
        if self.is_official:
            loss.item()
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        self.scaler.unscale_(self.optimizer)
        clip = optim.clip_adaptively if self.is_ours else adaptive_clip_grad
        clip(self.model.parameters(), clip_factor=_CLIP)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()
        self.ema.update(self.model)
        return loss.detach()


PEAK_OF = {
    "cuda": "allocated on the GPU for the network and one call, with its CUDA graph; without images and other networks",
    "cpu": "allocated by torch in one call; without weights, images and the libraries' own buffers",
}


@dataclass(frozen=True)
class Measured:
    """A measured cell."""

    cell: Cell
    rate: timing.Rate
    ratio: float
    """The median over the median of the group's first cell."""
    memory: int | None
    """Peak memory in bytes, as in `PEAK_OF`; None where the device has no such number."""
    costs: Mapping[str, Cost]
    """By part; of a classifier, the whole's alone."""
    parts: Mapping[str, timing.Rate]
    """Rates of a detector's parts."""

    @property
    def cost(self) -> Cost:
        """The cost of the whole."""
        return sum(self.costs.values(), Cost())


@dataclass(frozen=True)
class Built:
    """A cell that has run once."""

    work: timing.Work
    memory: int | None
    """Peak memory in bytes, as in `PEAK_OF`."""
    parts: Mapping[str, timing.Work] = field(default_factory=dict)
    """A detector's parts."""


def measure(
    groups: Sequence[Group], builder: "Builder", options: BenchmarkOptions
) -> tuple[list[Measured], dict[str, str]]:
    """Measure all groups, with a progress bar; return the cells, and why others can't be measured, by cell or network.

    Raises `UserError` where no cell could be measured.
    """
    measured = list[Measured]()
    bars = new_progress(None, TextColumn("{task.fields[now]}", markup=False))
    bars.add_task("benchmark", total=sum(map(len, groups)) * (1 + options.rounds), now="")
    with bars:
        for group in groups:
            try:
                measured += _measure_group(group, builder, options, bars)
            finally:
                builder.images.cache_clear()
                torch.compiler.reset()  # frees compiled networks
                gc.collect()
    if not measured:
        refuse(f"nothing could be measured: {what}: {reason}" for what, reason in builder.skipped.items())
    for what, reason in builder.skipped.items():
        bars.console.print(visible(f"skipped: {what}: {reason}"))
    return measured, builder.skipped


def _measure_group(group: Group, builder: "Builder", options: BenchmarkOptions, bars: Progress) -> list[Measured]:
    (bar,) = bars.tasks

    def step(what: str, *_: int) -> None:
        bars.update(bar.id, advance=1, now=visible(what))

    built: dict[Cell, Built] = {}
    with limited_recompiles(len(group) + 8):  # else torch runs further networks eagerly, and only warns
        for cell in group:
            step(f"building {cell}")
            what = f"{cell.model}, {cell.image_size} px"  # a refusal of the network is printed once
            try:
                builder.deployed(cell.model, cell.image_size)
                announce(bars, f"building {cell}")
                what = str(cell)
                built[cell] = builder.build(cell)
            except Exception as error:  # networks, compilers and devices have errors of their own
                if builder.device.type == "cuda":
                    torch.cuda.empty_cache()
                builder.skipped[what] = measuring.short_reason(error)
        works = {
            (cell, part): work
            for cell, each in built.items()
            for part, work in {WHOLE: each.work, **each.parts}.items()
        }
        bars.update(bar.id, total=(bar.total or 0) + (len(works) - len(group)) * options.rounds)
        if options.protocol == "interleaved":
            rates = timing.side_by_side(works, options.rounds, options.block_seconds, step)
        else:
            rates = {}
            for (cell, part), work in works.items():
                step(f"measuring {cell}")
                rates[cell, part] = officially_timed(work, options.warm_up_seconds, options.block_seconds)
    first = next(iter(rates.values())).median if rates else 1.0
    return [
        Measured(
            cell,
            rates[cell, WHOLE],
            rates[cell, WHOLE].median / first,
            each.memory,
            builder.deployed(cell.model, cell.image_size)[1],
            {part: rates[cell, part] for part in each.parts},
        )
        for cell, each in built.items()
    ]


class Builder:
    """A builder of cells, one by one, and the reasons why it could not build some."""

    def __init__(self, opened: Mapping[str, Any], device: torch.device, train: bool = False) -> None:
        self.opened, self.device, self.train = opened, device, train
        self.skipped: dict[str, str] = {}
        self.deployed = cache(self._deployed)
        self.images = cache(lambda batch, side, channels=3: torch.randn(batch, channels, side, side).to(device))

    def _deployed(self, name: str, pixels: int) -> tuple[Any, Mapping[str, Cost]]:
        return deployed(self.opened[name], pixels)

    def calls(self, cell: Cell, images: Tensor) -> dict[str, Callable[[], object]]:
        """Return a call of a cell by `WHOLE`, and calls of its parts by their names."""
        if self.train:
            return {WHOLE: TrainStep(cell, passes.at_size(self.opened[cell.model], cell.image_size), images)}
        return {WHOLE: inference_call(cell, self.deployed(cell.model, cell.image_size)[0], images)}

    def build(self, cell: Cell) -> Built:
        """Build a cell and run it once."""
        channels = getattr(self.opened[cell.model], "in_chans", 3)
        others = [channels] if channels != 3 else []  # a detector's images are always RGB
        images = self.images(cell.batch_size, cell.image_size, *others)  # before memory is watched
        before = reserved_memory(self.device)
        calls = self.calls(cell, images)
        calls[WHOLE]()
        # torch sees none of the memory of ONNX Runtime
        memory = None if cell.runtime == ONNX else peak_memory(calls[WHOLE], self.device, before)
        works = {part: timing.Work(call, cell.batch_size, self.device) for part, call in calls.items()}
        return Built(works.pop(WHOLE), memory or None, works)


def reserved_memory(device: torch.device) -> int:
    """Return the bytes that torch has taken from a GPU and needs; 0 elsewhere."""
    if device.type != "cuda":
        return 0
    torch.cuda.empty_cache()
    return torch.cuda.memory_reserved(device)


def peak_memory(call: Callable[[], object], device: torch.device, before: int = 0) -> int | None:
    """Return the peak memory of one call in bytes, as in `PEAK_OF`; None where the device has no such number.

    `before` is what `reserved_memory` returned before the network was built.
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
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profiler:
        call()
    return max(accumulate(allocations(profiler), initial=0))


def officially_timed(work: timing.Work, warm_up: float, seconds: float) -> timing.Rate:
    """Time as `speed_test.py` of the official code does: batch size over the mean time of a batch.

    The device is waited for after every batch. The script has 10 seconds of warm-up and 60 of batches.
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
