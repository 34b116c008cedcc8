"""Ways to run a network, of which `optimize` keeps the fastest."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from shvit_pl.command_line.checks import check_extra
from shvit_pl.deploy.compiling import NotCompiledError, compiling, frozen
from shvit_pl.deploy.cuda_graph import replayed
from shvit_pl.deploy.onnx_runtime import onnx_network
from shvit_pl.deploy.passes import Pass, attention_over_tokens, depthwise_as_sum, pointwise_as_linear, rewrite
from shvit_pl.errors import UserError

_PRODUCTS: tuple[Pass, ...] = (attention_over_tokens, pointwise_as_linear)
_SUMS: tuple[Pass, ...] = (*_PRODUCTS, depthwise_as_sum)


@dataclass(frozen=True)
class Recipe:
    """One way to run a network.

    Attributes:
        name: In words.
        passes: Rewritings of the fused network.
        tuned: Let the compiler measure kernels of its own against the libraries'.
        replayed: Start all of a GPU's kernels at once, as a CUDA graph.
        onnx: By ONNX Runtime instead of torch's compiler.
    """

    name: str
    passes: tuple[Pass, ...] = ()
    tuned: bool = False
    replayed: bool = False
    onnx: bool = False

    @property
    def layout(self) -> torch.memory_format:
        """Of the images that it takes."""
        return torch.contiguous_format if self.onnx else torch.channels_last

    def make(self, model: nn.Module, images: Tensor) -> Callable[[Tensor], Tensor]:
        """Compile a fused network for batches like this one; raises `NotCompiledError`."""
        if self.onnx:
            return _in_onnx_runtime(model, images)
        rewritten = rewrite(deepcopy(model), *self.passes).to(memory_format=torch.channels_last)
        network = frozen(rewritten, images, self.tuned)
        with compiling():
            return replayed(network, images) if self.replayed else network


def _in_onnx_runtime(model: nn.Module, images: Tensor) -> Callable[[Tensor], Tensor]:
    if images.dtype != torch.float32:
        raise NotCompiledError(f"ONNX Runtime computes in float32 here, not in {images.dtype}")
    try:
        check_extra("it", "onnx")
    except UserError as error:
        raise NotCompiledError(str(error)) from error
    with compiling():
        return onnx_network(deepcopy(model), images)


_ON_CPU = (
    Recipe("ONNX Runtime", onnx=True),
    Recipe("convolutions"),
    Recipe("matrix products", _PRODUCTS),
    Recipe("matrix products and sums", _SUMS),
)
_ON_GPU = (
    Recipe("convolutions, CUDA graph", replayed=True),
    Recipe("matrix products, CUDA graph", _PRODUCTS, replayed=True),
    Recipe("convolutions, tuned kernels, CUDA graph", tuned=True, replayed=True),
    Recipe("matrix products, tuned kernels, CUDA graph", _PRODUCTS, tuned=True, replayed=True),
    Recipe("matrix products and sums, tuned kernels, CUDA graph", _SUMS, tuned=True, replayed=True),
)


def recipes(device: torch.device) -> tuple[Recipe, ...]:
    """What to try on a device."""
    return _ON_GPU if device.type == "cuda" else _ON_CPU
