"""Parts of the network: token mixers (single-head, multi-head and bottlenecked self-attention), blocks and stages."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from timm.layers import DropPath, GroupNorm1
from timm.models.shvit import FFN, Conv2dNorm, PatchMerging
from timm.models.shvit import Residual as TimmResidual
from torch import nn
from torch.utils.checkpoint import checkpoint

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
        self.scale = qk_dim**-0.5  # keeps the variance of the scores at that of one product
        self.pre_norm = GroupNorm1(attended)
        self.qkv = Conv2dNorm(attended, sum(self.qkv_split))
        self.softmax = nn.Softmax(dim=-1)  # a module, so that hooks see the attention maps
        # gain 0: the residual around it begins as the identity
        self.proj = nn.Sequential(nn.ReLU(), Conv2dNorm(dim, out_dim or dim, bn_weight_init=0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map `(B, dim, H, W)` to `(B, out_dim, H, W)`."""
        batch, _, height, width = x.shape
        attended, rest = torch.split(x, self.split, dim=1)  # (B, attended, H, W), (B, dim - attended, H, W)
        q, k, v = torch.split(self.qkv(self.pre_norm(attended)), self.qkv_split, dim=1)  # v: (B, attended, H, W)
        shape = (batch, self.num_heads, -1, height * width)  # (B, heads, channels per head, N), N = H * W tokens
        scores = q.reshape(shape).transpose(-2, -1) @ k.reshape(shape)  # (B, heads, N queries, N keys)
        attention = self.softmax(scores * self.scale)  # each query's row sums to 1
        mixed = v.reshape(shape) @ attention.transpose(-2, -1)  # (B, heads, attended / heads, N)
        mixed = mixed.reshape(batch, -1, height, width)  # (B, attended, H, W)
        return self.proj(torch.cat([mixed, rest], dim=1))  # (B, out_dim, H, W)


class BottleneckAttention(nn.Sequential):
    """Fig. 6 (a): contract by 1x1 convolution, single-head attention over the narrow map, expand again."""

    def __init__(self, dim: int, width: int, qk_dim: int) -> None:
        super().__init__()
        self.contract = nn.Sequential(Conv2dNorm(dim, width), nn.ReLU())
        self.attention = SelfAttention(width, width, qk_dim, out_dim=dim)


def build_mixer(design: Design, stage: int) -> nn.Module | None:
    """Return the mixer of one block of `stage`; None where the depthwise convolution is all there is."""
    if design.mixers[stage] == "conv":
        return None
    dim, attended, qk_dim = design.embed_dim[stage], design.attended(stage), design.qk(stage)
    if design.mixers[stage] == "single_head" and design.single_head == "bottleneck":
        return BottleneckAttention(dim, attended, qk_dim)
    return SelfAttention(dim, attended, qk_dim, design.heads(stage))


class Residual(TimmResidual):
    """`x + drop_path(m(x))`; `fuse()` folds the identity into a depthwise kernel."""

    def __init__(self, m: nn.Module, drop_path: float = 0.0) -> None:
        super().__init__(m)
        self.drop_path = DropPath(drop_path) if drop_path else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Keep the shape of `x`."""
        return x + self.drop_path(self.m(x))


def _depthwise(dim: int, **init: int) -> Conv2dNorm:
    return Conv2dNorm(dim, dim, 3, 1, 1, groups=dim, **init)


class Block(nn.Module):
    """Depthwise convolution, mixer and FFN, each with a residual (paper Fig. 5)."""

    def __init__(self, design: Design, stage: int, drop_path: float) -> None:
        super().__init__()
        dim, mixer = design.embed_dim[stage], build_mixer(design, stage)
        has_conv = mixer is None or design.local_conv
        # gain 0 in the last BatchNorm of each part, as in the official code: a fresh block is the identity
        self.conv = Residual(_depthwise(dim, bn_weight_init=0), drop_path) if has_conv else nn.Identity()
        self.mixer = nn.Identity() if mixer is None else Residual(mixer, drop_path)
        self.ffn = Residual(FFN(dim, 2 * dim), drop_path)  # ratio 2 (paper sec. 3.1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Keep the shape `(B, C, H, W)`."""
        return self.ffn(self.mixer(self.conv(x)))


class Stage(nn.Module):
    """Downsampling (in all stages but the first) and the blocks."""

    def __init__(self, design: Design, stage: int, drop_path: list[float]) -> None:
        super().__init__()
        self.grad_checkpointing = False
        self.downsample: nn.Module = nn.Identity()
        if stage > 0:
            before, dim = design.embed_dim[stage - 1], design.embed_dim[stage]
            self.downsample = nn.Sequential(
                Residual(_depthwise(before)),
                Residual(FFN(before, 2 * before)),
                PatchMerging(before, dim),  # (B, C, H, W) -> (B, C', H/2, W/2)
                Residual(_depthwise(dim)),
                Residual(FFN(dim, 2 * dim)),
            )
        self.blocks = nn.Sequential(*(Block(design, stage, rate) for rate in drop_path))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map `(B, C, H, W)` to `(B, C', H/2, W/2)`; the first stage keeps the size."""
        x = self.downsample(x)
        if self.grad_checkpointing and self.training and not torch.jit.is_scripting():
            return checkpoint(self.blocks, x, use_reentrant=False, context_fn=self._contexts)
        return self.blocks(x)

    def _contexts(self) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        """Return contexts of the forward pass, and of its repetition, which must not update BatchNorm once more."""
        return nullcontext(), _without_tracking(self.blocks)


@contextmanager
def _without_tracking(module: nn.Module) -> Iterator[None]:
    norms = [norm for norm in module.modules() if isinstance(norm, nn.BatchNorm2d)]
    kept = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum, norm.num_batches_tracked = 0.0, None  # the running statistics stay; batches aren't counted
    try:
        yield
    finally:
        for norm, (momentum, batches) in zip(norms, kept, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, batches
