"""The fastest equal network for one shape of images."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from shvit_pl.deploy.compiling import compiled


def optimize(model: nn.Module, example: Tensor, dtype: torch.dtype = torch.float32) -> nn.Module:
    """An equal network that runs as fast as the device allows; `model` itself stays as it is.

    Args:
        model: A classifier `(B, 3, H, W)` to `(B, classes)`, of ours or of timm.
        example: A batch of the size to serve, on the device to serve it.
        dtype: What it computes in; images and logits keep the example's.

    Raises:
        NotCompiledError: where the compiler fails, or is missing.
    """
    fused: Any = deepcopy(model).eval()
    fused = fused.merge_heads() if hasattr(fused, "merge_heads") else fused
    fused = fused.fuse() if hasattr(fused, "fuse") else fused
    network = compiled(fused.to(dtype).to(memory_format=torch.channels_last), example.to(dtype))
    return _Cast(network, dtype, example.dtype)  # in evaluation mode, which an exported network can't leave


class _Cast(nn.Module):
    """A network that computes in another dtype than its images and logits have."""

    def __init__(self, network: nn.Module, dtype: torch.dtype, outside: torch.dtype) -> None:
        super().__init__()
        self.network = network
        self.dtype = dtype
        self.outside = outside

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images.to(self.dtype)).to(self.outside)
