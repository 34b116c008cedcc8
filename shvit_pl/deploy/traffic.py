"""Bytes that a network reads and writes, counted operator by operator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from shvit_pl.compat import storage_id


class Traffic(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """A counter of the bytes that ATen's operators read and write inside the block, without gradients.

    Every operator reads its input tensors and writes its output tensors: weights, feature maps, scores and products of
    attention, copies, residual additions. Views move nothing. This is the traffic if no cache keeps anything between
    two operators; copies inside an operator are not seen.
    """

    bytes: int
    """Bytes counted so far."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bytes = 0

    def __torch_dispatch__(
        self, func: OpOverload, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Call an operator and count what it moves."""
        result = func(*args, **(kwargs or {}))
        read, written = tensors_in((args, kwargs)), tensors_in(result)
        if func._schema.is_mutable or not _storages(written) <= _storages(read):
            self.bytes += sum(tensor.nbytes for tensor in (*read, *written))
        return result


def bytes_moved(model: nn.Module, images: Tensor) -> int:
    """Return the bytes that a forward pass reads and writes, as `Traffic` counts them.

    Args:
        model: In evaluation mode.
        images: A batch `(B, 3, S, S)`.
    """
    with torch.no_grad(), Traffic() as traffic:
        model(images)
    return traffic.bytes


def tensors_in(values: Any) -> list[Tensor]:
    """Return all tensors of nested lists, tuples and mappings."""
    return [value for value in tree_leaves(values) if isinstance(value, Tensor)]


def _storages(tensors: Sequence[Tensor]) -> set[int]:
    return {storage_id(tensor) for tensor in tensors}
