"""Equal forms of a network that run faster: for a size of images, fused, and with layers rewritten."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any, cast

import timm
import torch
from torch import Tensor, nn

from shvit_pl.errors import error_prefix
from shvit_pl.models import SHViT, blocks, network_names
from shvit_pl.models.open_network import OpenedNetwork, open_network

Pass = Callable[[nn.Module], nn.Module | None]  # the layer's faster form, or None where it has none


def at_size(opened: OpenedNetwork, pixels: int) -> nn.Module:
    """Return a copy of the network, or a new one where tensors depend on the side; raises as `check_size` does."""
    check_size(opened, pixels)
    if opened.origin != "timm" or pixels == opened.image_size:
        return deepcopy(opened.model)
    is_fixed = timm.models.get_pretrained_cfg(opened.name.removeprefix(network_names.TIMM)).fixed_input_size
    return open_network(opened.name, image_size=pixels).model if is_fixed else deepcopy(opened.model)


def check_size(opened: OpenedNetwork, pixels: int) -> None:
    """Raise `UserError` where a design can't take images of this side; other networks fail when they run."""
    if isinstance(opened.model, SHViT):
        with error_prefix("--"):
            opened.model.design.check_image_size(pixels)


def fused(model: nn.Module) -> nn.Module:
    """Return an equal copy in evaluation mode, with as few layers as the network's own methods make of it.

    Ours merge two classifiers and fold BatchNorm and the residuals of depthwise convolutions; timm's also merge
    branches for training (RepVGG, FastViT).
    """
    copy: Any = timm.utils.model.reparameterize_model(deepcopy(model).eval(), inplace=True)
    for step in ("merge_heads", "fuse"):
        copy = getattr(copy, step)() if hasattr(copy, step) else copy
    return copy.eval().requires_grad_(False)


def rewrite(model: nn.Module, *passes: Pass) -> nn.Module:
    """Replace, in place, every layer that a pass has a faster form of; the first pass that has one wins.

    The model is fused, in evaluation mode, and no layer that itself has another form.
    """
    for name, layer in list(model.named_children()):
        faster = next((form for layer_pass in passes if (form := layer_pass(layer)) is not None), None)
        if faster is None:
            rewrite(layer, *passes)
        else:
            setattr(model, name, faster)
    return model


def pointwise_as_linear(layer: nn.Module) -> nn.Module | None:
    """Return a 1x1 convolution as a matrix product over the pixels of a channels-last map, which needs no copy."""
    if not isinstance(layer, nn.Conv2d) or layer.groups != 1 or layer.padding != (0, 0):
        return None
    return _Pointwise(layer) if layer.kernel_size == layer.stride == layer.dilation == (1, 1) else None


def depthwise_as_sum(layer: nn.Module) -> nn.Module | None:
    """Return a 3x3 depthwise convolution as a sum of shifted products, which a compiler fuses with its neighbors."""
    if not isinstance(layer, nn.Conv2d) or not layer.groups == layer.in_channels == layer.out_channels:
        return None
    is_plain = layer.kernel_size == (3, 3) and layer.dilation == (1, 1) and layer.padding_mode == "zeros"
    return _Depthwise(layer) if is_plain and layer.padding == (1, 1) else None


def attention_over_tokens(layer: nn.Module) -> nn.Module | None:
    """Return self-attention over a channels-last map without copies, with GroupNorm's affine part and scale folded."""
    if isinstance(layer, blocks.SelfAttention) and isinstance(layer.qkv, nn.Conv2d):  # as fuse() leaves it
        return _Attention(layer)
    return None


_PIXELS, _MAPS = (0, 2, 3, 1), (0, 3, 1, 2)  # (B, C, H, W) to (B, H, W, C), no copy where it is channels-last; and back


def _bias(conv: nn.Conv2d) -> Tensor:
    return conv.weight.new_zeros(conv.out_channels) if conv.bias is None else conv.bias.detach()


class _Pointwise(nn.Linear):
    """`(B, C, H, W)` to `(B, C', H, W)`."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__(conv.in_channels, conv.out_channels, device="meta")
        self.weight = nn.Parameter(conv.weight.detach().flatten(1).contiguous())
        self.bias = nn.Parameter(_bias(conv))

    def forward(self, maps: Tensor) -> Tensor:
        return super().forward(maps.permute(_PIXELS)).permute(_MAPS)


class _Depthwise(nn.Module):
    """`(B, C, H, W)` to `(B, C, H / stride, W / stride)`."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.weight = nn.Parameter(conv.weight.detach().flatten(1).t().contiguous())  # (9, C)
        self.bias = nn.Parameter(_bias(conv))
        self.stride = conv.stride

    def forward(self, maps: Tensor) -> Tensor:
        pixels = nn.functional.pad(maps.permute(_PIXELS), (0, 0, 1, 1, 1, 1))
        height, width = maps.shape[-2:]
        total = self.bias
        for place, weight in enumerate(self.weight):
            top, left = divmod(place, 3)
            shifted = pixels[:, top : top + height : self.stride[0], left : left + width : self.stride[1]]
            total = total + shifted * weight
        return total.permute(_MAPS)


class _Attention(nn.Module):
    """The function of `SelfAttention`, `(B, C, H, W)` to `(B, C', H, W)`."""

    def __init__(self, attention: blocks.SelfAttention) -> None:
        super().__init__()
        self.num_heads = attention.num_heads
        self.split = attention.split
        self.qkv_split = attention.qkv_split
        self.eps = attention.pre_norm.eps
        # scale * (W (gamma * x + beta) + b) = (scale * W * gamma) x + scale * (W beta + b)
        weight, bias = attention.qkv.weight.detach().double().flatten(1), _bias(attention.qkv).double()
        bias = bias + weight @ attention.pre_norm.bias.detach().double()
        weight = weight * attention.pre_norm.weight.detach().double()
        scale = torch.ones_like(bias)
        scale[: attention.qkv_split[0]] = attention.scale  # only queries are scaled
        dtype = attention.qkv.weight.dtype
        self.qkv_weight = nn.Parameter((scale[:, None] * weight).to(dtype))
        self.qkv_bias = nn.Parameter((scale * bias).to(dtype))
        self.proj = _Pointwise(cast(nn.Conv2d, attention.proj[1]))

    def forward(self, maps: Tensor) -> Tensor:
        height, width = maps.shape[-2:]
        attended, rest = torch.split(maps.permute(_PIXELS).flatten(1, 2), self.split, dim=-1)  # (B, N, C)
        variance, mean = torch.var_mean(attended.float(), dim=(1, 2), keepdim=True, correction=0)
        normed = ((attended - mean) * torch.rsqrt(variance + self.eps)).to(attended.dtype)
        parts = torch.split(nn.functional.linear(normed, self.qkv_weight, self.qkv_bias), self.qkv_split, dim=-1)
        q, k, v = (
            part.reshape(*part.shape[:2], self.num_heads, -1).transpose(1, 2) for part in parts
        )  # (B, heads, N, C)
        mixed = (q @ k.transpose(-2, -1)).softmax(dim=-1) @ v
        joined = torch.cat([mixed.transpose(1, 2).flatten(2), rest], dim=-1).relu()
        projected = nn.functional.linear(joined, self.proj.weight, self.proj.bias)
        return projected.reshape(len(maps), height, width, -1).permute(_MAPS)
