"""The cells of a benchmark: which networks in which ways, in groups that are compared, and the call of each."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from shvit_pl.deploy import optimize
from shvit_pl.deploy.benchmark.options import BenchmarkOptions
from shvit_pl.deploy.flags import PAPER_BATCH
from shvit_pl.deploy.measuring import torch_dtype
from shvit_pl.deploy.onnx_runtime import onnx_network
from shvit_pl.deploy.optimization import Optimized, compiled
from shvit_pl.deploy.passes import at_size, fused
from shvit_pl.designs.cost import Cost, cost
from shvit_pl.errors import UserError
from shvit_pl.models import SHViT
from shvit_pl.models.open_network import OpenedNetwork, open_network

ONNX = "onnx"
COMPILE_MODE = {"compiled": None, "optimized": None}  # of torch.compile; the other modes have its names


@dataclass(frozen=True)
class Cell:
    """One row of the table."""

    model: str
    """The network's name as it was given."""
    runtime: str
    """The program that computes: torch or onnx."""
    mode: str
    """The way to run torch; empty for onnx."""
    dtype: str
    """The number type."""
    batch: int
    """Images per batch."""
    pixels: int
    """Side of the images."""

    @property
    def how(self) -> str:
        """The mode, or the runtime that has none."""
        return self.mode or self.runtime

    def __str__(self) -> str:
        return f"{self.model}, {self.how}, {self.dtype}, batch {self.batch}, {self.pixels} px"


@dataclass(frozen=True)
class Group:
    """Cells that are measured in turns, and compared."""

    batch: int
    """Images per batch."""
    image_size: int | None
    """The side asked for; `None` where each network has its own."""
    cells: tuple[Cell, ...]
    """The cells in the order of the table."""


def open_all(names: tuple[str, ...], averaged: bool | None) -> dict[str, OpenedNetwork]:
    """Open every network by name.

    Raises:
        UserError: for the first that can't be opened.
    """
    return {name: _open(name, averaged) for name in names}


def _open(name: str, averaged: bool | None) -> OpenedNetwork:
    try:
        return open_network(name, averaged)
    except UserError as error:
        if averaged and "averaged" in str(error):
            raise UserError(f"--weights ema: {error}") from error
        raise


def plan(options: BenchmarkOptions, sizes: Mapping[str, int], device: str) -> list[Group]:
    """Return the cells of a benchmark; those that are impossible fail when they are built.

    Args:
        options: The flags.
        sizes: Own image size of each model.
        device: Type of the device.
    """
    groups = []
    for batch, size in product(options.batch_size or (PAPER_BATCH[device],), options.image_size or (None,)):
        cells = [
            Cell(model, runtime, mode, dtype, batch, size or sizes[model])
            for model in options.models
            for runtime, mode, dtype in _ways(options, device)
        ]
        groups.append(Group(batch, size, tuple(cells)))
    return groups


def _ways(options: BenchmarkOptions, device: str) -> Iterator[tuple[str, str, str]]:
    """Give runtime, mode and dtype of every way to run a model."""
    for runtime in options.runtimes:
        if runtime == ONNX:
            yield ONNX, "", "fp32"
            continue
        for mode in options.modes:
            dtypes = (_official_dtype(device, options.train),) if mode == "official" else options.dtypes
            yield from (("torch", mode, dtype) for dtype in dtypes)


def _official_dtype(device: str, train: bool) -> str:
    return "fp16 autocast" if device == "cuda" and not train else "fp32"


@dataclass(frozen=True)
class Deployed:
    """A network for inference, on the CPU."""

    model: nn.Module
    """The fused network, in evaluation mode."""
    cost: Cost
    """Parameters and MACs: of ours in closed form, BatchNorm not fused; of timm's counted on `model`."""
    folded: str
    """The way the network was fused, in words."""


def deployed(opened: OpenedNetwork, pixels: int) -> Deployed:
    """Return the network as it infers, and its cost.

    Raises:
        UserError: where it can't take images of this side.
    """
    model = fused(at_size(opened, pixels))
    ours = "BatchNorm and residuals fused by fuse()"
    timm = "reparameterized by timm; further BatchNorm is left to the mode"
    return Deployed(model, _cost(opened, model, pixels), ours if hasattr(model, "fuse") else timm)


def _cost(opened: OpenedNetwork, model: nn.Module, pixels: int) -> Cost:
    if isinstance(opened.model, SHViT):
        return cost(opened.model.design, opened.model.num_classes, pixels)
    counter: Any = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        model(torch.zeros(1, 3, pixels, pixels))
    return Cost(sum(parameter.numel() for parameter in model.parameters()), counter.get_total_flops() // 2)


def inference_call(cell: Cell, model: nn.Module, images: Tensor) -> Callable[[], Tensor]:
    """Return a call that makes a forward pass of a cell and returns the logits `(B, classes)`.

    Args:
        cell: The way to run the network.
        model: In evaluation mode, fused, on the CPU; it stays as it is.
        images: A batch `(B, 3, S, S)` in float32 and NCHW, on the device.

    Raises:
        NotCompiledError: where the compiler fails, or is missing.
    """
    if cell.runtime == ONNX:
        session, batch = onnx_network(model, images), images.cpu()
        return lambda: session(batch)
    if cell.mode == "official":
        return official_call(model, images)
    images = images.to(torch_dtype(cell.dtype), memory_format=torch.channels_last)
    network: Any = _network(cell.mode, model, images)
    layout = network.layout if isinstance(network, Optimized) else torch.channels_last
    images = images.contiguous(memory_format=layout)

    @torch.inference_mode()
    def call() -> Tensor:
        return network(images)

    return call


def _network(mode: str, model: nn.Module, images: Tensor) -> nn.Module:
    on_device = deepcopy(model).to(images.device)
    if mode == "optimized":
        return optimize(on_device, images, images.dtype)
    network = on_device.to(images.dtype).to(memory_format=torch.channels_last)
    return network if mode == "eager" else compiled(network, images, COMPILE_MODE.get(mode, mode))


def official_call(model: nn.Module, images: Tensor) -> Callable[[], Tensor]:
    """Return a call of the network as `speed_test.py` of the official code runs it (github.com/ysj9909/SHViT).

    It is traced and takes NCHW images: on a GPU under fp16 autocast, on a CPU in fp32.

    Args:
        model: In evaluation mode, fused, on the CPU; it stays as it is.
        images: A batch `(B, 3, S, S)` in float32 and NCHW, on the device.
    """
    device = images.device
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tracing is deprecated, but the official code traces
        network: Any = torch.jit.trace(deepcopy(model).to(device), images)  # type: ignore[no-untyped-call]

    def call() -> Tensor:
        with torch.no_grad(), torch.autocast("cuda", torch.float16, enabled=device.type == "cuda"):
            return network(images)

    return call
