"""The attention layers of a network: finding them, their maps, the similarity of their heads, and ablations."""

import warnings
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from shvit_pl.analysis.command import Vectorize
from shvit_pl.errors import UserError

_MAPS = ("attn_drop", "softmax")  # modules that attention maps pass, the last one of them first


@dataclass(frozen=True)
class AttentionLayer:
    """An attention module, and where its heads are."""

    name: str
    """Path in the network, such as `blocks.0.attn`."""
    heads: int
    maps: str
    """Path of the module whose output is the attention maps `(..., heads, queries, keys)`."""
    dim: int
    """Dimension in which the input of its `proj` holds the heads' channels side by side: -1 of tokens, else 1."""
    width: int


def attention_layers(model: nn.Module, images: Tensor) -> list[AttentionLayer]:
    """Find the attention layers of any network of ours or timm's, in the order of execution.

    A layer is a module with `num_heads`, a projection `proj`, and a module `attn_drop` or `softmax` that the maps pass
    when attention is not fused. The place of its heads is tried, not assumed: a mark in the last head's map, in the row
    of the first query, has to arrive before the projection in the last head's channels of one token, and nowhere else.
    It does not in attention between channels (XCiT, DaViT's other half), where heads are interleaved (NesT) or among
    the samples (SAM), and where no module has the maps (LeViT, MViT v2, attention pooling): such layers are left out
    with a warning.

    Args:
        model: The network in evaluation mode; left as it was.
        images: `(B, 3, S, S)` of the network's size; the first one is run.

    Raises `UserError` (a `ValueError`) where there is no such layer.
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
    inputs = defaultdict[str, list[Tensor]](list)

    def mark(heads: int, _: nn.Module, __: object, maps: Tensor) -> None:
        if maps.ndim >= 4 and maps.shape[-3] == heads:
            maps[(0,) * (maps.ndim - 3)][-1, 0] = torch.nan

    def arrive(name: str, _: nn.Module, arguments: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        inputs[name].append(arguments[0])
        return arguments[0].nan_to_num(), *arguments[1:]  # so that later layers see their own marks only

    with ExitStack() as hooks, torch.no_grad(), unfused(model.modules()):
        for name, module in model.named_modules():
            heads, proj = (getattr(module, child, None) for child in ("num_heads", "proj"))
            if isinstance(heads, int) and isinstance(proj, nn.Module):
                hooks.enter_context(proj.register_forward_pre_hook(partial(arrive, name)))
                if maps := _maps_module(module):
                    hooks.enter_context(module.get_submodule(maps).register_forward_hook(partial(mark, heads)))
        model(image)
    return inputs


def _maps_module(module: nn.Module) -> str:
    return next((name for name in _MAPS if isinstance(getattr(module, name, None), nn.Module)), "")


def _layer(name: str, module: nn.Module, inputs: Sequence[Tensor]) -> AttentionLayer | None:
    """Return the layer where the mark arrived once, as the last head's channels of one token, else `None`."""
    heads: int = module.num_heads  # type: ignore[assignment]
    for dim in (-1, 1)[: inputs[0].ndim - 2] if len(inputs) == 1 else ():
        tokens, channels = inputs[0].isnan().movedim(dim, -1).flatten(0, -2).nonzero(as_tuple=True)
        width = len(channels)
        last_head = range((heads - 1) * width, heads * width)
        if width > 1 and len(set(tokens.tolist())) == 1 and channels.tolist() == list(last_head):
            return AttentionLayer(name, heads, f"{name}.{_maps_module(module)}", dim, width)
    return None


@contextmanager
def recorded_maps(
    model: nn.Module, layers: Sequence[AttentionLayer], record: Callable[[AttentionLayer, Tensor], None]
) -> Iterator[None]:
    """Pass each layer and its maps `(N, heads, queries, keys)`, whenever `model` computes them meanwhile, to `record`.

    The maps are those that weight the values; N are the images, or all windows of all images where attention is within
    windows. Attention is not fused meanwhile.
    """

    def pass_on(layer: AttentionLayer, _: nn.Module, __: object, maps: Tensor) -> None:
        record(layer, maps.flatten(0, -4))

    with ExitStack() as hooks, unfused(model.get_submodule(layer.name) for layer in layers):
        for layer in layers:
            hooks.enter_context(model.get_submodule(layer.maps).register_forward_hook(partial(pass_on, layer)))
        yield


@contextmanager
def unfused(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Compute attention step by step for a while: fused, it has no maps in memory, and is one operator.

    Timm's `modules` have a switch, which is as before afterwards; what calls torch's function gets its plain form.
    """
    before: dict[Any, Any] = {module: module.fused_attn for module in modules if hasattr(module, "fused_attn")}
    try:
        for module in before:
            module.fused_attn = False
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        for module, fused in before.items():
            module.fused_attn = fused


def without_prefix(maps: Tensor, prefix: int) -> Tensor:
    """Drop the first `prefix` tokens (class token) from queries and keys of maps `(N, heads, queries, keys)`.

    Their number is timm's `model.num_prefix_tokens`. Where they are the only queries (class attention), these stay.
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

    Raises `UserError` (a `ValueError`) for other shapes and choices.
    """
    return sample_similarity(maps, vectorize).mean(0)


def sample_similarity(maps: Tensor, vectorize: Vectorize = "map") -> Tensor:
    """Return the similarity that `head_similarity` averages, by image or window: `(N, heads)`."""
    if vectorize not in ("map", "query"):
        raise UserError(f"vectorize {vectorize!r}: allowed are map and query.")
    if maps.ndim != 4:
        raise UserError(f"maps of shape {tuple(maps.shape)}: expected (N, heads, queries, keys).")
    vectors = maps.flatten(2).unsqueeze(2) if vectorize == "map" else maps  # a whole map is the vector of one query
    unit = nn.functional.normalize(vectors.float(), dim=-1)
    heads, vectors_per_head = unit.shape[1:3]
    cosines = torch.einsum("nhqk,ngqk->nhg", unit, unit) / vectors_per_head
    return (cosines.sum(-1) - cosines.diagonal(dim1=-2, dim2=-1)) / (heads - 1)


def ablations(
    model: nn.Module, layers: Sequence[AttentionLayer], images: Tensor, progress: Callable[[], object] = lambda: None
) -> Iterator[tuple[AttentionLayer, Tensor]]:
    """Compute logits of images `(B, 3, S, S)` without each head, and with each alone in its layer (paper sec. 2.2).

    The network is as it was whenever a layer is yielded; `progress` is called after each of its `2 * heads` passes.

    Yields:
        Each layer, and logits `(2, heads, B, classes)`: `[0, h]` with the output of head `h` set to zero, `[1, h]`
        with those of all other heads of the layer set to zero.
    """
    for layer in layers:
        heads, logits = set(range(layer.heads)), []
        for removed in [{head} for head in heads] + [heads - {head} for head in heads]:
            with torch.no_grad(), without_heads(model, layer, removed):
                logits.append(model(images))
            progress()
        yield layer, torch.stack(logits).reshape(2, layer.heads, *logits[0].shape)


@contextmanager
def without_heads(model: nn.Module, layer: AttentionLayer, heads: Collection[int]) -> Iterator[None]:
    """Set the outputs of some heads (from 0) to zero for a while: in the input of the layer's projection (sec. 2.2)."""

    def set_to_zero(_: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        outputs = inputs[0].clone()
        for head in heads:
            outputs.narrow(layer.dim, head * layer.width, layer.width).zero_()
        return outputs, *inputs[1:]

    with model.get_submodule(f"{layer.name}.proj").register_forward_pre_hook(set_to_zero):
        yield
