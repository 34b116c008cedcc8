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
from shvit_pl.deploy.benchmark.session import onnx_call
from shvit_pl.deploy.compiling import compiled

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

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
        return onnx_call(model, images)
    if cell.mode == "official":
        return official_call(model, images)
    dtype = DTYPES[cell.dtype]
    images = images.to(dtype, memory_format=torch.channels_last)
    return _without_gradients(_network(cell.mode, model, images), images)


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
