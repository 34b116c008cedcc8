"""The attention layers of a network whose heads can be seen and silenced, found by trying."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from shvit_pl.analysis.heads.attention.evaluation import evaluation
from shvit_pl.analysis.unfused import unfused
from shvit_pl.errors import UserError

_MAPS = ("attn_drop", "softmax")  # modules that attention maps pass, the last one first
_Arguments = tuple[tuple[Any, ...], dict[str, Any]]


@dataclass(frozen=True)
class AttentionLayer:
    """An attention module, and where its heads are.

    Attributes:
        name: Its path in the network, such as `blocks.0.attn`.
        heads: How many it has.
        maps: The path of the module that puts out its attention maps `(..., heads, queries, keys)`.
        proj: The path of its projection, whose input holds the heads' outputs side by side, from channel 0 on.
        dim: The dimension of the channels in that input: -1 of tokens, 1 of feature maps.
        width: Channels per head.
    """

    name: str
    heads: int
    maps: str
    proj: str
    dim: int
    width: int


def attention_layers(model: nn.Module, images: Tensor) -> list[AttentionLayer]:
    """Find the attention layers of any network of ours or timm's, in the order of execution.

    A layer is a module with `num_heads`, a projection `proj`, and a module `attn_drop` or `softmax` that the maps pass
    when attention is not fused. Whether its heads are where they should be is tried: a mark in the last head's map, in
    the row of the first query, has to arrive before the projection in the last head's channels of one token, and
    nowhere else. So it is in our mixers of one and many heads, and in timm's ViT (also with relative positions, RoPE
    and parallel blocks), DeiT, BEiT, EVA, CaiT, ConViT, CrossViT, PiT, PVT v2, Swin (V1, V2 and its variant CR), Twins,
    GC ViT, MaxViT, CoAtNet, NeXt-ViT, Visformer, MobileViT, FastViT and CAFormer. It is not so in attention between
    channels (XCiT, DaViT's other half), where heads are interleaved (NesT) or among the samples (SAM), and where no
    module sees the maps (LeViT, MViT v2, attention pooling): such layers are left out with a warning.

    Args:
        model: The network; it is left as it was.
        images: `(B, 3, S, S)` of the size that it is for; the first one is run.

    Raises:
        UserError: (a `ValueError`) where there is no such layer.
    """
    found: list[AttentionLayer] = []
    unseen: dict[str, str] = {}
    with evaluation(model):
        for name, arguments in _first_calls(model, images[:1]).items():
            module = model.get_submodule(name)
            layer = _layer(name, module, arguments)
            if layer is None:
                unseen.setdefault(type(module).__name__, name)
            else:
                found.append(layer)
    _complain(found, unseen)
    return found


def _complain(found: list[AttentionLayer], unseen: Mapping[str, str]) -> None:
    which = ", ".join(f"{kind} ({name})" for kind, name in unseen.items())
    if not found:
        why = f"that of {which} does not show" if unseen else "no module has num_heads and proj"
        raise UserError(
            f"no attention whose heads can be seen: {why}. Give a network with self-attention between tokens, such as "
            "timm:deit_tiny_patch16_224, timm:swin_tiny_patch4_window7_224, or a design with attention."
        )
    if unseen:
        warnings.warn(f"left out, as its heads can't be seen: {which}", stacklevel=3)


def _first_calls(model: nn.Module, images: Tensor) -> dict[str, _Arguments]:
    """What every attention module is called with for the first time."""
    calls: dict[str, _Arguments] = {}
    with ExitStack() as stack:
        for name, module in model.named_modules():
            if _has_heads(module):
                note = _noting(name, calls)
                stack.callback(module.register_forward_pre_hook(note, with_kwargs=True).remove)
        model(images)
    return calls


def _has_heads(module: nn.Module) -> bool:
    return isinstance(getattr(module, "num_heads", None), int) and isinstance(getattr(module, "proj", None), nn.Module)


def _noting(name: str, calls: dict[str, _Arguments]) -> Any:
    def note(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        calls.setdefault(name, (args, kwargs))

    return note


def _layer(name: str, module: nn.Module, arguments: _Arguments) -> AttentionLayer | None:
    """The layer, or `None` where the mark in a head's map does not arrive as it should."""
    heads: int = module.num_heads  # type: ignore[assignment]
    part = next((part for part in _MAPS if isinstance(getattr(module, part, None), nn.Module)), None)
    arrived = None if part is None else _mark(module, heads, part, arguments)
    if arrived is None:
        return None
    marked = arrived.isnan().nonzero()
    for dim in (-1, 1)[: arrived.ndim - 2]:
        if _is_last_head(marked, dim, heads, arrived.shape[dim]):
            return AttentionLayer(name, heads, f"{name}.{part}", f"{name}.proj", dim, len(marked))
    return None


def _is_last_head(marked: Tensor, dim: int, heads: int, channels: int) -> bool:
    """Whether all places `(M, dims)` are of one token, and are the channels of the last of so many heads."""
    width = len(marked)
    if width < 2 or heads * width > channels:
        return False
    expected = marked[:1].repeat(width, 1)
    expected[:, dim] = torch.arange((heads - 1) * width, heads * width)
    return torch.equal(marked, expected)


def _mark(module: nn.Module, heads: int, part: str, arguments: _Arguments) -> Tensor | None:
    """The input of the projection when the first row of the last head's map is nan."""
    arrived: list[Tensor] = []

    def spoil(_: nn.Module, inputs: Any, maps: Tensor) -> Tensor:
        spoilt = maps.clone()
        if maps.ndim > 3 and maps.shape[-3] == heads:
            spoilt[(0,) * (maps.ndim - 3)][-1, 0] = torch.nan
        return spoilt

    def arrive(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        arrived.append(inputs[0])

    args, kwargs = arguments
    with ExitStack() as stack, unfused([module]):
        stack.callback(module.get_submodule(part).register_forward_hook(spoil).remove)
        stack.callback(module.get_submodule("proj").register_forward_pre_hook(arrive).remove)
        module.forward(*args, **kwargs)
    return arrived[0] if len(arrived) == 1 else None
