"""The attention layers of a network: finding them, their maps, the similarity of their heads, and ablations."""

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from shvit_pl.errors import UserError

Vectorize = Literal["map", "query"]
_MAPS = ("attn_drop", "softmax")  # modules that attention maps pass, the last one of them first


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
    when attention is not fused. The place of its heads is tried, not assumed: a mark in the last head's map, in the row
    of the first query, has to arrive before the projection in the last head's channels of one token, and nowhere else.
    It does in our mixers of one and many heads, and in timm's ViT (also with relative positions, RoPE and parallel
    blocks), DeiT, BEiT, EVA, CaiT, ConViT, CrossViT, PiT, PVT v2, Swin (V1, V2 and its variant CR), Twins, GC ViT,
    MaxViT, CoAtNet, NeXt-ViT, Visformer, MobileViT, FastViT and CAFormer. It does not in attention between channels
    (XCiT, DaViT's other half), where heads are interleaved (NesT) or among the samples (SAM), and where no module has
    the maps (LeViT, MViT v2, attention pooling): such layers are left out with a warning.

    Args:
        model: The network in evaluation mode; left as it was.
        images: `(B, 3, S, S)` of the network's size; the first one is run.

    Raises:
        UserError: (a `ValueError`) where there is no such layer.
    """
    layers: list[AttentionLayer] = []
    left_out: dict[str, str] = {}
    for name, inputs in _marked_inputs(model, images[:1]).items():
        module = model.get_submodule(name)
        if layer := _layer(name, module, inputs):
            layers.append(layer)
        else:
            left_out.setdefault(type(module).__name__, name)
    names = ", ".join(f"{kind} ({name})" for kind, name in left_out.items())
    if not layers:
        why = f"not exposed by {names}" if left_out else "no module has num_heads and proj"
        raise UserError(
            f"no attention heads found: {why}. Give a network with self-attention between tokens, such as "
            "timm:deit_tiny_patch16_224, timm:swin_tiny_patch4_window7_224, or a design with attention."
        )
    if left_out:
        warnings.warn(f"skipped, as their heads are not exposed: {names}", stacklevel=2)
    return layers


def _marked_inputs(model: nn.Module, image: Tensor) -> Mapping[str, list[Tensor]]:
    """Return the inputs of each layer's projection when the first row of its last head's map is nan."""
    inputs: dict[str, list[Tensor]] = {}

    def begin(name: str, *_: object) -> None:
        inputs.setdefault(name, [])

    def mark(heads: int, _: nn.Module, __: object, maps: Tensor) -> Tensor | None:
        if maps.ndim < 4 or maps.shape[-3] != heads:
            return None
        marked = maps.clone()
        marked[(0,) * (maps.ndim - 3)][-1, 0] = torch.nan
        return marked

    def arrive(name: str, _: nn.Module, arguments: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        inputs.setdefault(name, []).append(arguments[0])
        return arguments[0].nan_to_num(), *arguments[1:]  # so that later layers see their own marks only

    modules = {name: module for name, module in model.named_modules() if _has_heads(module)}
    with ExitStack() as hooks, torch.no_grad(), unfused(modules.values()):
        for name, module in modules.items():
            hooks.enter_context(module.register_forward_pre_hook(partial(begin, name)))
            hooks.enter_context(module.get_submodule("proj").register_forward_pre_hook(partial(arrive, name)))
            if maps := _maps_module(module):
                hooks.enter_context(module.get_submodule(maps).register_forward_hook(partial(mark, module.num_heads)))
        model(image)
    return inputs


def _has_heads(module: nn.Module) -> bool:
    return isinstance(getattr(module, "num_heads", None), int) and isinstance(getattr(module, "proj", None), nn.Module)


def _maps_module(module: nn.Module) -> str:
    return next((name for name in _MAPS if isinstance(getattr(module, name, None), nn.Module)), "")


def _layer(name: str, module: nn.Module, inputs: Sequence[Tensor]) -> AttentionLayer | None:
    """Return the layer where the mark arrived as the last head's channels of one token, else `None`."""
    if len(inputs) != 1 or inputs[0].isnan().sum() < 2:
        return None
    heads: int = module.num_heads  # type: ignore[assignment]
    marked = inputs[0].isnan().nonzero()  # (channels per head, dimensions)
    width = len(marked)
    for dim in (-1, 1)[: inputs[0].ndim - 2]:
        expected = marked[:1].repeat(width, 1)
        expected[:, dim] = torch.arange((heads - 1) * width, heads * width)
        if heads * width <= inputs[0].shape[dim] and torch.equal(marked, expected):
            return AttentionLayer(name, heads, f"{name}.{_maps_module(module)}", f"{name}.proj", dim, width)
    return None


@contextmanager
def recorded_maps(
    model: nn.Module, layers: Sequence[AttentionLayer], record: Callable[[AttentionLayer, Tensor], None]
) -> Iterator[None]:
    """Pass the attention maps of whatever `model` computes meanwhile to `record`; attention is not fused meanwhile.

    Args:
        model: The network in evaluation mode; afterwards all is as it was.
        layers: Layers from `attention_layers`.
        record: Called with a layer and its maps `(N, heads, queries, keys)`, those that weight the values. N are the
            images, or all windows of all images where attention is within windows.
    """

    def pass_on(layer: AttentionLayer, _: nn.Module, __: object, maps: Tensor) -> None:
        record(layer, maps.flatten(0, -4))

    with ExitStack() as hooks, unfused(model.get_submodule(layer.name) for layer in layers):
        for layer in layers:
            module = model.get_submodule(layer.maps)
            hooks.enter_context(module.register_forward_hook(partial(pass_on, layer)))
        yield


@contextmanager
def unfused(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Compute attention step by step for a while: fused, it has no maps in memory, and is one operator.

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
        for module, fused in before:
            module.fused_attn = fused


def without_prefix(maps: Tensor, prefix: int) -> Tensor:
    """Drop the class token and the like from the queries and the keys of maps `(N, heads, queries, keys)`.

    Args:
        maps: Attention maps; where these tokens are the only queries (class attention), the queries stay.
        prefix: Number of such tokens, which come first: timm's `model.num_prefix_tokens`.
    """
    return maps[..., prefix if maps.shape[-2] > prefix else 0 :, prefix:]


def head_similarity(maps: Tensor, vectorize: Vectorize = "map") -> Tensor:
    """Return the mean cosine similarity of each head with the other heads of its layer (paper sec. 2.2, Figs. 3 and 4).

    The paper does not define its vectors. A class token counts unless `without_prefix` has dropped it.

    Args:
        maps: Attention maps `(N, heads, queries, keys)`, such as `recorded_maps` passes; N are images, or windows.
        vectorize: `map` compares whole maps; `query` compares the distributions of each query, and takes the mean.

    Returns:
        `(heads,)`, from 0 to 1 for maps without negative values; nan for one head, which has no others.

    Raises:
        UserError: (a `ValueError`) for other shapes and choices.
    """
    return sample_similarity(maps, vectorize).mean(0)


def sample_similarity(maps: Tensor, vectorize: Vectorize = "map") -> Tensor:
    """Return the similarity that `head_similarity` averages, by image or window: `(N, heads)`."""
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
    model: nn.Module, layers: Sequence[AttentionLayer], images: Tensor, progress: Callable[[], object] = lambda: None
) -> Iterator[tuple[AttentionLayer, Tensor]]:
    """Compute logits without each head, and with each head alone in its layer (paper sec. 2.2).

    Args:
        model: The network in evaluation mode; it is as it was whenever a layer is yielded.
        layers: Layers from `attention_layers`.
        images: `(B, 3, S, S)`.
        progress: Called after each of the `2 * heads` forward passes of a layer.

    Yields:
        Each layer, and logits `(2, heads, B, classes)`: `[0, h]` with the output of head `h` set to zero, `[1, h]`
        with those of all other heads of the layer set to zero.
    """
    for layer in layers:
        heads = range(layer.heads)
        logits = []
        for removed in [[head] for head in heads] + [[other for other in heads if other != head] for head in heads]:
            with torch.no_grad(), without_heads(model, layer, removed):
                logits.append(model(images))
            progress()
        yield layer, torch.stack(logits).reshape(2, layer.heads, *logits[0].shape)


@contextmanager
def without_heads(model: nn.Module, layer: AttentionLayer, heads: Sequence[int]) -> Iterator[None]:
    """Set the outputs of some heads (from 0) to zero for a while: in the input of the layer's projection (sec. 2.2)."""

    def silence(_: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        outputs = inputs[0].clone()
        for head in heads:
            outputs.narrow(layer.dim, head * layer.width, layer.width).zero_()
        return outputs, *inputs[1:]

    with model.get_submodule(layer.proj).register_forward_pre_hook(silence):
        yield
