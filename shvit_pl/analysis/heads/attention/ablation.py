"""What a network answers without some of its heads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from shvit_pl.analysis.heads.attention.layers import AttentionLayer
from shvit_pl.analysis.heads.attention.trunk import Trunk


def ablations(
    model: nn.Module,
    layers: Sequence[AttentionLayer],
    images: Tensor,
    progress: Callable[[], object] | None = None,
) -> Iterator[tuple[AttentionLayer, Tensor]]:
    """Logits without each head, and with each head alone in its layer, all other layers being whole (paper sec. 2.2).

    What is before the projection of a layer is computed once for all its heads. The logits are nevertheless those of a
    whole forward pass with `without_heads`, bit by bit.

    Args:
        model: It is run in evaluation mode, and is as it was whenever a layer is handed over.
        layers: Of `attention_layers`, in the order of execution; some may be left out.
        images: `(B, 3, S, S)`.
        progress: Called after each of the `2 * heads` forward passes of a layer.

    Yields:
        Each layer, and logits `(2, heads, B, classes)`: `[0, h]` with the output of head `h` set to zero, `[1, h]`
        with those of all other heads of the layer set to zero.

    Raises:
        UserError: (a `ValueError`) for a model whose forward passes are not alike.
        ValueError: for layers in another order.
    """
    trunk = Trunk(model, images)
    for layer in layers:
        trunk.extend(model.get_submodule(layer.proj))
        yield layer, _both_ways(trunk, model, layer, progress)


def _both_ways(trunk: Trunk, model: nn.Module, layer: AttentionLayer, progress: Callable[[], object] | None) -> Tensor:
    logits = []
    for zeroed in removals(layer.heads):
        with without_heads(model, layer, zeroed):
            logits.append(trunk.go_on())
        if progress is not None:
            progress()
    return torch.stack(logits).reshape(2, layer.heads, *logits[0].shape)


def removals(heads: int) -> list[list[int]]:
    """Which heads are set to zero in each pass over a layer: each one, then all but each one."""
    each = range(heads)
    return [[head] for head in each] + [[other for other in each if other != head] for head in each]


@contextmanager
def without_heads(model: nn.Module, layer: AttentionLayer, heads: Iterable[int]) -> Iterator[None]:
    """Set the outputs of some heads of a layer to zero, in whatever `model` computes meanwhile.

    They are set where they leave the attention: in the input of the layer's projection (paper sec. 2.2).

    Args:
        model: It is as it was afterwards.
        layer: Of `attention_layers`.
        heads: Numbers from 0 to `layer.heads - 1`.
    """
    zeroed = list(heads)

    def silence(_: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        outputs = inputs[0].clone()
        for head in zeroed:
            outputs.narrow(layer.dim, head * layer.width, layer.width).zero_()
        return outputs, *inputs[1:]

    hook = model.get_submodule(layer.proj).register_forward_pre_hook(silence)
    try:
        yield
    finally:
        hook.remove()
