"""What is exported: a fused network, with normalisation before it and softmax after it as asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn


class Graph(nn.Module):
    """A network with what surrounds it in use.

    Args:
        network: `(B, 3, S, S)` to `(B, classes)`.
        mean: Of the normalisation of pixels from 0 to 1, per channel; None: images come normalised.
        std: Likewise.
        softmax: Give probabilities instead of logits.
        dtype: What the network computes in; images and outputs keep their own.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        network: nn.Module,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        softmax: bool = False,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        self.network = network.to(dtype)
        self.normalise = mean is not None and std is not None
        self.softmax = softmax
        self.dtype = dtype
        if mean is not None and std is not None:
            self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1))
            self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Map images `(B, 3, S, S)` to logits or probabilities `(B, classes)`."""
        if self.normalise:
            images = (images - self.mean) / self.std
        outputs = self.network(images.to(self.dtype)).to(images.dtype)
        return outputs.softmax(dim=-1) if self.softmax else outputs


@dataclass(frozen=True)
class Surroundings:
    """What `Graph` puts around a network; as its arguments."""

    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None
    softmax: bool = False

    def around(self, network: nn.Module, dtype: torch.dtype = torch.float32) -> Graph:
        """A graph of a network, in evaluation mode."""
        return Graph(network, self.mean, self.std, self.softmax, dtype).eval()
