"""Token mixers: single-head (SHSA), multi-head and bottlenecked self-attention over feature maps."""

from __future__ import annotations

import torch
from timm.layers import GroupNorm1
from timm.models.shvit import Conv2dNorm
from torch import nn

from shvit_pl.designs.design import Design


class SelfAttention(nn.Module):
    """Self-attention over the first channels of a feature map; the others pass by (paper sec. 2.2 and Eq. 2-4).

    With one head this is SHSA: GroupNorm over the attended slice, one 1x1 convolution for queries, keys and values,
    attention, concatenation with the untouched channels, ReLU and a 1x1 projection over all channels. The order and
    the ReLU are the official code's. More heads over all channels make it MHSA, all else being equal.

    Args:
        dim: Input channels.
        attended: Channels that take part, the first ones; also the width of the values of all heads together.
        qk_dim: Query and key channels per head.
        num_heads: Heads; divides `attended`.
        out_dim: Output channels (default: `dim`).
    """

    def __init__(self, dim: int, attended: int, qk_dim: int, num_heads: int = 1, out_dim: int | None = None) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.split = [attended, dim - attended]
        self.qkv_split = [num_heads * qk_dim, num_heads * qk_dim, attended]
        self.scale = qk_dim**-0.5
        self.pre_norm = GroupNorm1(attended)
        self.qkv = Conv2dNorm(attended, sum(self.qkv_split))
        self.softmax = nn.Softmax(dim=-1)  # a module, so that hooks see the attention maps
        self.proj = nn.Sequential(nn.ReLU(), Conv2dNorm(dim, out_dim or dim, bn_weight_init=0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map `(B, dim, H, W)` to `(B, out_dim, H, W)`."""
        batch, _, height, width = x.shape
        seen, rest = torch.split(x, self.split, dim=1)
        q, k, v = torch.split(self.qkv(self.pre_norm(seen)), self.qkv_split, dim=1)
        shape = (batch, self.num_heads, -1, height * width)  # (B, heads, C, N)
        attention = self.softmax(q.reshape(shape).transpose(-2, -1) @ k.reshape(shape) * self.scale)  # queries, keys
        mixed = (v.reshape(shape) @ attention.transpose(-2, -1)).reshape(batch, -1, height, width)
        return self.proj(torch.cat([mixed, rest], dim=1))


class BottleneckAttention(nn.Sequential):
    """Fig. 6 (a): contract by 1x1 convolution, single-head attention over the narrow map, expand again."""

    def __init__(self, dim: int, width: int, qk_dim: int) -> None:
        super().__init__()
        self.contract = nn.Sequential(Conv2dNorm(dim, width), nn.ReLU())
        self.attention = SelfAttention(width, width, qk_dim, out_dim=dim)


def build_mixer(design: Design, stage: int) -> nn.Module | None:
    """The mixer of one block of `stage`, or `None` where the depthwise convolution is all there is."""
    if design.mixers[stage] == "conv":
        return None
    dim, attended, qk_dim = design.embed_dim[stage], design.attended(stage), design.qk(stage)
    if design.mixers[stage] == "single_head" and design.single_head == "bottleneck":
        return BottleneckAttention(dim, attended, qk_dim)
    return SelfAttention(dim, attended, qk_dim, design.heads(stage))
