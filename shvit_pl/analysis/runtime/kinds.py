"""Which kind of operation an operator of torch is.

The kinds are those of the paper's Fig. 7, which does not say what belongs to which. Here:

* matrix product: products of matrices, linear layers, and all convolutions (those of attention are 1x1).
* elementwise: additions (biases, masks, residuals), scaling, activations.
* normalisation: layer, group and batch normalisation, softmax, and other reductions along an axis. Where the paper
  counts softmax we do not know; it is here for what it does: it sums over an axis, and divides by the sum.
* copy: concatenating, padding, gathering, converting, filling.
* reshape: changes of shape and layout, and the copies that they cause: a permuted tensor made contiguous, the heads
  of attention brought into a batch of matrices, a cyclic shift.

What an operator copies or allocates on behalf of another one belongs to its caller, and so does all that is in no
list. Without such a caller a copy is a `copy`, and the rest is `other`, which is shown.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, get_args

Kind = Literal["matrix product", "elementwise", "normalisation", "copy", "reshape", "other"]
KINDS: tuple[Kind, ...] = get_args(Kind)
MEMORY_BOUND: tuple[Kind, ...] = KINDS[1:]
ALL_BUT_PRODUCTS = "memory-bound"  # what their sum is called

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
    "normalisation": """
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
    """The kind of an operator.

    Args:
        chain: Its name, such as `aten::copy_`, and those of its callers from the nearest outwards.
    """
    names = [name.split("::")[-1].removesuffix("_") for name in chain]
    default: Kind = "copy" if names and names[0] in _COPIES else "other"
    return next((_KIND[name] for name in names if name in _KIND), default)
