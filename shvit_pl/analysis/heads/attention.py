"""The attention layers of a network: which there are, their maps, how alike their heads are, and what each is worth."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from shvit_pl.errors import UserError

Vectorize = Literal["map", "query"]
_MAPS = ("attn_drop", "softmax")  # names of modules that attention maps pass, the last one of them first
_Arguments = tuple[tuple[Any, ...], dict[str, Any]]


@dataclass(frozen=True)
class AttentionLayer:
    """An attention module, and where its heads are."""

    name: str
    """Path in the network, such as `blocks.0.attn`."""
    heads: int
    """Number of heads."""
    maps: str
    """Path of the module whose output is the attention maps `(..., heads, queries, keys)`."""
    proj: str
    """Path of the projection, whose input holds the heads' outputs side by side, from channel 0 on."""
    dim: int
    """Dimension of the channels in that input: -1 of tokens, 1 of feature maps."""
    width: int
    """Channels per head."""


def attention_layers(model: nn.Module, images: Tensor) -> list[AttentionLayer]:
    """Find the attention layers of any network of ours or timm's, in the order of execution.

    A layer is a module with `num_heads`, a projection `proj`, and a module `attn_drop` or `softmax` that the maps pass
    when attention is not fused. Where its heads are is tried, not assumed: a mark in the last head's map, in the row of
    the first query, has to arrive before the projection in the last head's channels of one token, and nowhere else. It
    does in our mixers of one and many heads, and in timm's ViT (also with relative positions, RoPE and parallel
    blocks), DeiT, BEiT, EVA, CaiT, ConViT, CrossViT, PiT, PVT v2, Swin (V1, V2 and its variant CR), Twins, GC ViT,
    MaxViT, CoAtNet, NeXt-ViT, Visformer, MobileViT, FastViT and CAFormer. It does not in attention between channels
    (XCiT, DaViT's other half), where heads are interleaved (NesT) or among the samples (SAM), and where no module has
    the maps (LeViT, MViT v2, attention pooling): such layers are left out with a warning.

    Args:
        model: The network; left as it was.
        images: `(B, 3, S, S)` of the network's size; the first one is run.

    Raises:
        UserError: (a `ValueError`) where there is no such layer.
    """
    layers: list[AttentionLayer] = []
    left_out: dict[str, str] = {}
    with evaluation(model):
        for name, arguments in _first_calls(model, images[:1]).items():
            module = model.get_submodule(name)
            layer = _layer(name, module, arguments)
            if layer is None:
                left_out.setdefault(type(module).__name__, name)
            else:
                layers.append(layer)
    _report_left_out(layers, left_out)
    return layers


def _report_left_out(layers: list[AttentionLayer], left_out: Mapping[str, str]) -> None:
    names = ", ".join(f"{kind} ({name})" for kind, name in left_out.items())
    if not layers:
        why = f"that of {names} does not show" if left_out else "no module has num_heads and proj"
        raise UserError(
            f"no attention whose heads can be seen: {why}. Give a network with self-attention between tokens, such as "
            "timm:deit_tiny_patch16_224, timm:swin_tiny_patch4_window7_224, or a design with attention."
        )
    if left_out:
        warnings.warn(f"left out, as its heads can't be seen: {names}", stacklevel=3)


def _first_calls(model: nn.Module, images: Tensor) -> dict[str, _Arguments]:
    """Return the arguments of every attention module's first call."""
    calls: dict[str, _Arguments] = {}

    def note(name: str) -> Callable[..., None]:
        return lambda module, args, kwargs: calls.setdefault(name, (args, kwargs)) and None

    with ExitStack() as hooks:
        for name, module in model.named_modules():
            if _has_heads(module):
                hooks.callback(module.register_forward_pre_hook(note(name), with_kwargs=True).remove)
        model(images)
    return calls


def _has_heads(module: nn.Module) -> bool:
    return isinstance(getattr(module, "num_heads", None), int) and isinstance(getattr(module, "proj", None), nn.Module)


def _layer(name: str, module: nn.Module, arguments: _Arguments) -> AttentionLayer | None:
    """Return the layer, or `None` where the mark in a head's map does not arrive as it should."""
    heads: int = module.num_heads  # type: ignore[assignment]
    maps = next((part for part in _MAPS if isinstance(getattr(module, part, None), nn.Module)), None)
    arrived = None if maps is None else _mark(module, heads, maps, arguments)
    if arrived is None:
        return None
    marked = arrived.isnan().nonzero()
    for dim in (-1, 1)[: arrived.ndim - 2]:
        if _is_last_head(marked, dim, heads, arrived.shape[dim]):
            return AttentionLayer(name, heads, f"{name}.{maps}", f"{name}.proj", dim, len(marked))
    return None


def _mark(module: nn.Module, heads: int, maps_module: str, arguments: _Arguments) -> Tensor | None:
    """Return the input of the projection when the first row of the last head's map is nan."""
    arrived: list[Tensor] = []

    def spoil(_: nn.Module, inputs: Any, maps: Tensor) -> Tensor:
        spoilt = maps.clone()
        if maps.ndim > 3 and maps.shape[-3] == heads:
            spoilt[(0,) * (maps.ndim - 3)][-1, 0] = torch.nan
        return spoilt

    def arrive(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        arrived.append(inputs[0])

    args, kwargs = arguments
    with ExitStack() as hooks, unfused([module]):
        hooks.callback(module.get_submodule(maps_module).register_forward_hook(spoil).remove)
        hooks.callback(module.get_submodule("proj").register_forward_pre_hook(arrive).remove)
        module.forward(*args, **kwargs)
    return arrived[0] if len(arrived) == 1 else None


def _is_last_head(marked: Tensor, dim: int, heads: int, channels: int) -> bool:
    """Return whether the places `(M, dims)` are of one token, and are the channels of the last of so many heads."""
    width = len(marked)
    if width < 2 or heads * width > channels:
        return False
    expected = marked[:1].repeat(width, 1)
    expected[:, dim] = torch.arange((heads - 1) * width, heads * width)
    return torch.equal(marked, expected)


@contextmanager
def evaluation(model: nn.Module) -> Iterator[None]:
    """Evaluate without gradients for a while; afterwards every module is in the mode that it was in."""
    training = [module for module in model.modules() if module.training]
    try:
        for module in training:
            module.training = False
        with torch.no_grad():
            yield
    finally:
        for module in training:
            module.training = True


@contextmanager
def recorded_maps(
    model: nn.Module, layers: Sequence[AttentionLayer], record: Callable[[AttentionLayer, Tensor], None]
) -> Iterator[None]:
    """Pass the attention maps of whatever `model` computes meanwhile to `record`.

    Attention is not fused meanwhile, as fused it never has its maps in memory; afterwards all is as it was.

    Args:
        model: The network, in any mode; maps of interest are those of evaluation.
        layers: Layers from `attention_layers`.
        record: Called with a layer and its maps `(N, heads, queries, keys)`, those that weight the values. N are the
            images, or all windows of all images where attention is within windows.
    """

    def pass_on(layer: AttentionLayer) -> Callable[[nn.Module, Any, Tensor], None]:
        return lambda module, inputs, maps: record(layer, maps.flatten(0, -4))

    with ExitStack() as hooks, unfused(model.get_submodule(layer.name) for layer in layers):
        for layer in layers:
            hooks.callback(model.get_submodule(layer.maps).register_forward_hook(pass_on(layer)).remove)
        yield


@contextmanager
def unfused(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Compute attention step by step for a while: fused, it has no maps, and is one operator.

    Timm's `modules` have a switch, which is as before afterwards; what calls torch's function gets its plain form.
    """
    fusing: list[Any] = [module for module in modules if hasattr(module, "fused_attn")]
    before = [(module, module.fused_attn) for module in fusing]
    try:
        for module, _ in before:
            module.fused_attn = False
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        for module, fused_attn in before:
            module.fused_attn = fused_attn


def without_prefix(maps: Tensor, prefix: int) -> Tensor:
    """Drop the class token and the like from the queries and the keys of maps `(N, heads, queries, keys)`.

    Args:
        maps: Attention maps; where only these tokens ask (class attention), they are dropped from the keys alone.
        prefix: Number of such tokens, which come first: timm's `model.num_prefix_tokens`.
    """
    asking = prefix if maps.shape[-2] > prefix else 0
    return maps[..., asking:, prefix:]


def head_similarity(maps: Tensor, vectorize: Vectorize = "map") -> Tensor:
    """Return the mean cosine similarity of each head with the other heads of its layer (paper sec. 2.2, Figs. 3 and 4).

    The paper does not say what its vectors are. A class token counts unless `without_prefix` has dropped it.

    Args:
        maps: Attention maps `(N, heads, queries, keys)`, such as `recorded_maps` gives; N are images, or windows.
        vectorize: `map` compares whole maps; `query` compares the distributions of each query, and takes the mean.

    Returns:
        `(heads,)`, from 0 to 1 for maps without negative values; nan for one head, which has no others.

    Raises:
        UserError: (a `ValueError`) for other shapes and choices.
    """
    return sample_similarity(maps, vectorize).mean(0)


def sample_similarity(maps: Tensor, vectorize: Vectorize = "map") -> Tensor:
    """Return the similarity that `head_similarity` averages, image by image or window by window: `(N, heads)`."""
    if vectorize not in ("map", "query"):
        raise UserError(f"vectorize {vectorize!r}: allowed are map and query.")
    if maps.ndim != 4:
        raise UserError(f"maps of shape {tuple(maps.shape)}: expected (N, heads, queries, keys).")
    vectors = maps.flatten(2).unsqueeze(2) if vectorize == "map" else maps  # a whole map is the vector of one query
    unit = F.normalize(vectors.float(), dim=-1)
    heads, vectors_per_head = unit.shape[1:3]
    cosines = torch.einsum("nhqk,ngqk->nhg", unit, unit) / vectors_per_head
    return (cosines.sum(-1) - cosines.diagonal(dim1=-2, dim2=-1)) / (heads - 1)


def ablations(
    model: nn.Module,
    layers: Sequence[AttentionLayer],
    images: Tensor,
    progress: Callable[[], object] = lambda: None,
) -> Iterator[tuple[AttentionLayer, Tensor]]:
    """Compute logits without each head, and with each head alone in its layer (paper sec. 2.2).

    Args:
        model: The network; it is run in evaluation mode, and is as it was whenever a layer is yielded.
        layers: Layers from `attention_layers`.
        images: `(B, 3, S, S)`.
        progress: Called after each of the `2 * heads` forward passes of a layer.

    Yields:
        Each layer, and logits `(2, heads, B, classes)`: `[0, h]` with the output of head `h` set to zero, `[1, h]`
        with those of all other heads of the layer set to zero.
    """
    for layer in layers:
        heads = range(layer.heads)
        removals = [[head] for head in heads] + [[other for other in heads if other != head] for head in heads]
        logits = []
        for removed in removals:
            with evaluation(model), without_heads(model, layer, removed):
                logits.append(model(images))
            progress()
        yield layer, torch.stack(logits).reshape(2, layer.heads, *logits[0].shape)


@contextmanager
def without_heads(model: nn.Module, layer: AttentionLayer, heads: Iterable[int]) -> Iterator[None]:
    """Set the outputs of some heads of a layer to zero, in whatever `model` computes meanwhile.

    They are set where they leave the attention: in the input of the layer's projection (paper sec. 2.2).

    Args:
        model: The network; as it was afterwards.
        layer: A layer from `attention_layers`.
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
