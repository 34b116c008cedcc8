"""Attention maps, handed over while a network runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn

from shvit_pl.analysis.heads.attention.layers import AttentionLayer
from shvit_pl.analysis.unfused import unfused


@contextmanager
def seen_maps(
    model: nn.Module, layers: Sequence[AttentionLayer], consume: Callable[[AttentionLayer, Tensor], None]
) -> Iterator[None]:
    """Hand over the attention maps of whatever `model` computes meanwhile.

    Fused attention is off meanwhile, as it never has its maps in memory; afterwards all is as it was.

    Args:
        model: It may be in any mode; maps of interest are those of evaluation.
        layers: Of `attention_layers`.
        consume: Told of every layer's maps `(N, heads, queries, keys)`, those that weight the values. N are the
            images, or all windows of all images where attention is within windows.
    """
    with ExitStack() as stack:
        stack.enter_context(unfused(model.get_submodule(layer.name) for layer in layers))
        for layer in layers:
            hook = model.get_submodule(layer.maps).register_forward_hook(_handing_over(layer, consume))
            stack.callback(hook.remove)
        yield


def _handing_over(
    layer: AttentionLayer, consume: Callable[[AttentionLayer, Tensor], None]
) -> Callable[[nn.Module, Any, Tensor], None]:
    return lambda module, inputs, maps: consume(layer, maps.flatten(0, -4))


def without_prefix(maps: Tensor, prefix: int) -> Tensor:
    """Drop the class token and the like from the queries and the keys of maps `(N, heads, queries, keys)`.

    Args:
        maps: Of `seen_maps`; where only these tokens ask (class attention), they are dropped from the keys alone.
        prefix: How many such tokens come first: timm's `model.num_prefix_tokens`.
    """
    asking = prefix if maps.shape[-2] > prefix else 0
    return maps[..., asking:, prefix:]
