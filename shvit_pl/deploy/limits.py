"""What a device can do at most, and what the layers of a network ask of its memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from shvit_pl.deploy.timing import Work, side_by_side

_SIDE = {"cuda": 8192}  # of the matrices
_SMALLER = 2048
_NUMBERS = 2**26  # of the copy: far more than any cache holds
_IDLE = (nn.Identity, nn.Flatten, nn.Dropout)  # in evaluation


def peaks(device: torch.device, dtype: torch.dtype) -> tuple[float, float]:
    """FLOP/s of a large matrix product, and bytes/s (read and written) of a large copy."""
    side = _SIDE.get(device.type, _SMALLER)
    matrix = torch.randn(side, side, device=device).to(dtype)
    source, target = (torch.zeros(_NUMBERS, device=device) for _ in range(2))
    work = {
        "product": Work(lambda: matrix @ matrix, 1, device),
        "copy": Work(lambda: target.copy_(source), 1, device),
    }
    rates = side_by_side(work, rounds=5, seconds=0.3)
    return 2 * side**3 * rates["product"].median, 2 * source.nbytes * rates["copy"].median


def bytes_moved(model: nn.Module, images: Tensor) -> int:
    """Bytes of every layer's input, output and weights: the traffic if each layer reads and writes them once."""
    return sum(bytes_of_layers(model, images).values())


@torch.inference_mode()
def bytes_of_layers(model: nn.Module, images: Tensor) -> dict[str, int]:
    """Bytes of the input, output and weights of every layer, by its name, in one forward pass.

    Layers are modules without children, but for those that move nothing. What a network computes between them (the
    products of attention, residual additions) is not counted, so this is a lower bound.

    Args:
        model: In evaluation mode.
        images: A batch `(B, 3, S, S)`.
    """
    found: dict[str, int] = {}

    def counting(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def count(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            tensors = (*inputs, output, *layer.parameters(recurse=False))
            found[name] = found.get(name, 0) + sum(tensor.nbytes for tensor in tensors)

        return count

    handles = [layer.register_forward_hook(counting(name)) for name, layer in _layers(model)]
    try:
        model(images)
    finally:
        for handle in handles:
            handle.remove()
    return found


def _layers(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    for name, module in model.named_modules():
        if not list(module.children()) and not isinstance(module, _IDLE):
            yield name, module
