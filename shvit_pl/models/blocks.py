"""What the network is stacked from: blocks of convolution, mixer and FFN, and stages of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from timm.layers import DropPath
from timm.models.shvit import FFN, Conv2dNorm, PatchMerging
from timm.models.shvit import Residual as TimmResidual
from torch import nn
from torch.utils.checkpoint import checkpoint

from shvit_pl.designs.design import Design
from shvit_pl.models.mixers import build_mixer


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
        self.conv = Residual(_depthwise(dim, bn_weight_init=0), drop_path) if has_conv else nn.Identity()
        self.mixer = nn.Identity() if mixer is None else Residual(mixer, drop_path)
        self.ffn = Residual(FFN(dim, 2 * dim), drop_path)

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
                PatchMerging(before, dim),
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
        """Of the forward pass, and of its repetition, which must not count in BatchNorm's statistics once more."""
        return nullcontext(), _without_tracking(self.blocks)


@contextmanager
def _without_tracking(module: nn.Module) -> Iterator[None]:
    norms = [norm for norm in module.modules() if isinstance(norm, nn.BatchNorm2d)]
    kept = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for norm, (momentum, batches) in zip(norms, kept, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, batches
