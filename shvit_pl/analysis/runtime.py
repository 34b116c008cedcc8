"""Shares of the time of attention by kind of operation, from profiled passes."""

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Literal, get_args

import numpy as np
from torch import nn
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile, record_function

from shvit_pl.analysis import attention_layers, command, study
from shvit_pl.deploy.timing import quartiles
from shvit_pl.errors import UserError

Kind = Literal["matrix product", "elementwise", "normalization", "copy", "reshape", "other"]
Times = dict[tuple[str, Kind], float]  # microseconds by operator and kind

KINDS: tuple[Kind, ...] = get_args(Kind)
MEMORY_BOUND = "memory-bound"  # name of the sum of all but matrix products
MARK = "shvit_pl::measured"  # name of the profiler's range around what counts


@dataclass(frozen=True)
class Shares:
    """Shares of the time of all operators in the scope, in percent."""

    scope: str
    milliseconds: float
    """Time of all these operators in a pass, the median."""
    percent: dict[str, float]
    """By kind: medians over the passes, scaled to a sum of 100; and `MEMORY_BOUND`, the sum of all but products."""
    quartiles: dict[str, tuple[float, float]]
    """By the same names: first and third quartile of the passes, not scaled."""
    operators: dict[tuple[str, Kind], float]
    """By operator and kind over all passes, the largest first."""


def measure(networks: Sequence[study.ReadyNetwork], scope: command.Scope, repeats: int) -> list[Shares]:
    """Profile `repeats` passes of each network, in turns; raises `UserError` where one has nothing in the scope."""

    def profiled(network: study.ReadyNetwork) -> Times:
        parts = [AttentionPart(network.model)] if scope == "network" else attention_parts(network.model)
        with attention_layers.unfused(network.model.modules()), marked(parts):
            times = operator_times(network)
        if not times:
            raise UserError(f"{network.name!r}: no known attention layers; give --scope network.")
        return times

    results = zip(networks, study.in_turns(networks, repeats, profiled), strict=True)
    if scope == "network":
        return [summed_up(times, "the whole network") for _, times in results]
    return [summed_up(times, part_words(attention_parts(network.model))) for network, times in results]


def summed_up(passes: Sequence[Times], scope: str) -> Shares:
    """Return the shares of several passes, given in microseconds; `scope` is what was measured, in words."""
    by_kind = np.zeros((len(passes), len(KINDS)))
    operators = Counter[tuple[str, Kind]]()
    for number, times in enumerate(passes):
        operators.update(times)
        for (_, kind), time in times.items():
            by_kind[number, KINDS.index(kind)] += time
    percent = 100 * by_kind / by_kind.sum(axis=1, keepdims=True)
    columns = {**dict(zip(KINDS, percent.T, strict=True)), MEMORY_BOUND: percent[:, 1:].sum(axis=1)}
    medians = scaled(np.median(percent, axis=0))
    return Shares(
        scope,
        float(np.median(by_kind.sum(axis=1))) / 1000,
        {**dict(zip(KINDS, medians, strict=True)), MEMORY_BOUND: sum(medians[1:])},
        {name: quartiles(column) for name, column in columns.items()},
        {key: 100 * time / operators.total() for key, time in operators.most_common()},
    )


def scaled(medians: np.ndarray) -> list[float]:
    """Scale medians to a sum of 100: that of matrix products stays, and with it the sum of the others."""
    products, others = float(medians[0]), medians[1:]
    return [products, *(others * (100 - products) / (others.sum() or 1)).tolist()]


def operator_times(network: study.ReadyNetwork) -> Times:
    """Return the microseconds of each operator itself in one pass, of those within the ranges called `MARK`.

    On a CPU that is the time in the operator without those that it calls; on a GPU that of the kernels it launches.
    """
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # it would look for a GPU, and report that there is none
    on_gpu = network.images.device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    with profile(activities=activities) as profiler:
        network.call()
    times: Times = defaultdict(float)
    for event in profiler.events() or []:  # not key_averages: it keeps no callers
        if event.device_type != DeviceType.CPU or event.is_user_annotation:
            continue
        chain, caller = [], event
        while caller is not None and caller.name != MARK:
            chain.append(caller.name)
            caller = caller.cpu_parent
        if caller is not None:
            own = sum(kernel.duration for kernel in event.kernels) if on_gpu else event.self_cpu_time_total
            times[event.name, kind_of(chain)] += float(own)
    return dict(times)


# ---- the kind of an operator

# The kinds are those of the paper's Fig. 7, which does not define them. Here:
#
# * matrix product: products of matrices, linear layers, and all convolutions (those of attention are 1x1).
# * elementwise: additions (biases, masks, residuals), scaling, activations.
# * normalization: layer, group and batch normalization, softmax, and other reductions along an axis. The paper does
#   not say where it counts softmax; it is here because it sums over an axis and divides by the sum.
# * copy: concatenating, padding, gathering, converting, filling.
# * reshape: changes of shape and layout, and the copies that they cause: a permuted tensor made contiguous, the heads
#   of attention brought into a batch of matrices, a cyclic shift.
#
# What an operator copies or allocates for another one belongs to its caller, and so does all that is in no list.
# Without such a caller a copy is a `copy`, and the rest is `other`, which is shown.
OPERATORS: dict[Kind, str] = {
    "matrix product": """
        addbmm addmm _addmm_activation baddbmm bmm einsum linear matmul mm mv
        _conv_depthwise2d _convolution _slow_conv2d_forward conv1d conv2d conv3d convolution convolution_overrideable
        cudnn_convolution miopen_convolution mkldnn_convolution mkldnn_linear slow_conv2d_forward thnn_conv2d
    """,
    "elementwise": """
        abs add clamp clamp_max clamp_min cos div dropout elu eq erf exp gelu ge gt hardsigmoid hardswish hardtanh le
        leaky_relu log lt masked_fill maximum minimum mul ne neg pow prelu reciprocal relu relu6 rsqrt rsub sigmoid
        silu sin softplus sqrt square sub tanh threshold where mish log_sigmoid bitwise_not logical_not
    """,
    "normalization": """
        _batch_norm_impl_index _fused_rms_norm _log_softmax _softmax adaptive_avg_pool2d _adaptive_avg_pool2d amax amin
        avg_pool2d batch_norm cudnn_batch_norm cumsum group_norm instance_norm layer_norm linalg_vector_norm log_softmax
        max max_pool2d max_pool2d_with_indices mean miopen_batch_norm native_batch_norm native_group_norm
        native_layer_norm norm prod rms_norm softmax std sum var var_mean _native_batch_norm_legit_no_training
    """,
    "copy": """
        _pad_circular _to_copy arange cat concat constant_pad_nd embedding fill full gather hstack index index_copy
        index_put index_select masked_select new_full new_ones new_zeros ones pad reflection_pad2d repeat
        repeat_interleave replication_pad2d scatter stack tile to type_as upsample_bicubic2d upsample_bilinear2d
        upsample_nearest2d zero zeros zeros_like ones_like full_like
    """,
    "reshape": """
        _reshape_alias _unsafe_view alias as_strided broadcast_to chunk contiguous detach diagonal expand expand_as
        flatten flip im2col lift_fresh movedim moveaxis narrow numpy_T permute pixel_shuffle pixel_unshuffle reshape
        reshape_as roll select slice split split_with_sizes squeeze swapaxes swapdims t tensor_split transpose unbind
        unflatten unfold unsafe_chunk unsafe_split unsqueeze view view_as
    """,
}
_COPIES = ("copy", "clone")
_KIND: dict[str, Kind] = {name: kind for kind, names in OPERATORS.items() for name in names.split()}


def kind_of(chain: Iterable[str]) -> Kind:
    """Return the kind of an operator, by its name, such as `aten::copy_`, and those of its callers outwards."""
    names = [name.split("::")[-1].removesuffix("_") for name in chain]
    default: Kind = "copy" if names and names[0] in _COPIES else "other"
    return next((_KIND[name] for name in names if name in _KIND), default)


# ---- the attention of a network's blocks: what a block does but for its FFN and that one's normalization

_ATTENTION = ("attention", "attn", "shsa", "mhsa", "xca", "litemla")  # parts of the names of classes
_FFN = ("mlp", "ffn")  # names of a block's children


@dataclass(frozen=True)
class AttentionPart:
    """From the beginning of a module to its end, or to that of its FFN."""

    module: nn.Module
    """A block, or attention with its residual."""
    ends: tuple[nn.Module, ...] = ()
    """Children of the module; the part ends where the first of them is called."""

    def __str__(self) -> str:
        if self.ends:
            return f"{type(self.module).__name__} up to its FFN"
        inner = [type(child).__name__ for child in self.module.children() if _is_attention(child)]
        return f"{inner[0]} with its residual" if _is_residual(self.module) else f"{type(self.module).__name__} alone"


def attention_parts(module: nn.Module) -> list[AttentionPart]:
    """Find the attention of a network by the names of its classes and layers; empty where there is none."""
    attention = [child for child in module.children() if _is_attention(child)]
    ends = _ffn_after(module, attention[0]) if attention else ()
    if ends or (attention and _is_residual(module)):
        return [AttentionPart(module, ends)]
    others = [child for child in module.children() if child not in attention]
    inner = [part for child in others for part in attention_parts(child)]
    return [AttentionPart(child) for child in attention] + inner


def part_words(parts: Sequence[AttentionPart]) -> str:
    """Return the parts in a few words, such as `12 x Block up to its FFN`."""
    return ", ".join(f"{number} x {name}" for name, number in Counter(map(str, parts)).items())


def _is_attention(module: nn.Module) -> bool:
    """Return whether it is attention by its class and its queries, but no block itself, as MaxViT's is."""
    if not any(word in type(module).__name__.lower() for word in _ATTENTION):
        return False
    names = [name.rpartition(".")[2] for name, _ in module.named_modules()]
    # gates over channels are called attention too, but have neither heads nor queries (`qkv`, `to_query`)
    has_queries = hasattr(module, "num_heads") or any(name.startswith("q") or "query" in name for name in names)
    return has_queries and not any(_ffn_after(inner, None) for inner in module.modules())


def _is_residual(module: nn.Module) -> bool:
    return "residual" in type(module).__name__.lower()


def _ffn_after(block: nn.Module, attention: nn.Module | None) -> tuple[nn.Module, ...]:
    """Return what begins the FFN of a block, of its children after the attention; empty where it has no FFN."""
    children = list(block.named_children())
    after = [child for _, child in children].index(attention) if attention is not None else -1
    later = children[after + 1 :]
    if not any(name in _FFN for name, _ in later):
        return ()
    return tuple(child for name, child in later if name in (*_FFN, "norm2"))


@contextmanager
def marked(parts: Sequence[AttentionPart]) -> Iterator[None]:
    """Put a range of the profiler around every part, for a while."""

    def begin(around: ExitStack, *_: object) -> None:
        around.enter_context(record_function(MARK))

    def end(around: ExitStack, *_: object) -> None:
        around.close()  # twice does no harm

    with ExitStack() as hooks:
        for part in parts:
            around = ExitStack()
            hooks.enter_context(part.module.register_forward_pre_hook(partial(begin, around)))
            for module in part.ends:
                hooks.enter_context(module.register_forward_pre_hook(partial(end, around)))
            hooks.enter_context(part.module.register_forward_hook(partial(end, around), always_call=True))
        yield
