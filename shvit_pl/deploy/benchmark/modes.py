"""Ways to run a network: each gives something to call."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from shvit_pl.deploy import optimize
from shvit_pl.deploy.benchmark.cells import ONNX, Cell
from shvit_pl.deploy.benchmark.official import official_call
from shvit_pl.deploy.measuring import torch_dtype
from shvit_pl.deploy.onnx_runtime import onnx_network
from shvit_pl.deploy.optimization import Optimized, compiled

TORCH_MODE = {"compiled": None, "optimized": None}  # of torch.compile; the others are its own words


def inference(cell: Cell, model: nn.Module, images: Tensor) -> Callable[[], Tensor]:
    """A forward pass of a cell, to be called.

    Args:
        cell: How to run it.
        model: In evaluation mode, fused, on the CPU; it stays as it is.
        images: A batch `(B, 3, S, S)` in float32 and NCHW, on the device.

    Returns:
        What gives the logits `(B, classes)`.

    Raises:
        NotCompiledError: where the compiler fails, or is missing.
    """
    if cell.runtime == ONNX:
        session, batch = onnx_network(model, images), images.cpu()
        return lambda: session(batch)
    if cell.mode == "official":
        return official_call(model, images)
    images = images.to(torch_dtype(cell.dtype), memory_format=torch.channels_last)
    network = _network(cell.mode, model, images)
    layout = network.layout if isinstance(network, Optimized) else torch.channels_last
    return _without_gradients(network, images.contiguous(memory_format=layout))


def _network(mode: str, model: nn.Module, images: Tensor) -> nn.Module:
    on_device = deepcopy(model).to(images.device)
    if mode == "optimized":
        return optimize(on_device, images, images.dtype)
    network = on_device.to(images.dtype).to(memory_format=torch.channels_last)
    return network if mode == "eager" else compiled(network, images, TORCH_MODE.get(mode, mode))


def _without_gradients(network: Any, images: Tensor) -> Callable[[], Tensor]:
    @torch.inference_mode()
    def call() -> Tensor:
        return network(images)

    return call
