"""CUDA graphs: all kernels of a network started at once."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

_WARM_UPS = 3  # as torch's notes on CUDA graphs have it


@torch.no_grad()
def replayed(network: Callable[[Tensor], Tensor], images: Tensor) -> Callable[[Tensor], Tensor]:
    """Capture a network's work on batches of this shape; each call copies images in, replays, and copies logits out.

    Calls share one place for images and one for logits: make them from one thread and stream.
    """
    given = images.clone()
    with torch.cuda.device(images.device):
        graph, result = _captured(network, given)

    @torch.no_grad()
    def replay(batch: Tensor) -> Tensor:
        with torch.cuda.device(given.device):
            given.copy_(batch)
            graph.replay()
            return result.clone()  # the next call writes over it

    return replay


def _captured(network: Callable[[Tensor], Tensor], given: Tensor) -> tuple[torch.cuda.CUDAGraph, Tensor]:
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(_WARM_UPS):
            network(given)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = network(given)
    return graph, result
