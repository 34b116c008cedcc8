"""The network: a stem, stages of blocks and one or two classifiers, built from a `Design`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import torch
from timm.layers import DropPath, SelectAdaptivePool2d, calculate_drop_path_rates, get_device_dtype
from timm.models.shvit import FFN, Conv2dNorm, NormLinear, PatchMerging
from timm.models.shvit import Residual as TimmResidual
from timm.models.shvit import SHViT as TimmSHViT
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from shvit_pl.designs.design import Design
from shvit_pl.errors import UserError
from shvit_pl.models.heads import merged_classifier
from shvit_pl.models.mixers import build_mixer
from shvit_pl.models.naming import record_design


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
        if self.grad_checkpointing and self.training:
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


class SHViT(TimmSHViT):
    """SHViT of any design, with timm's model contract and, for S1-S4, timm's `state_dict` keys.

    Args:
        num_classes: Classes; 0 leaves the classifier out.
        in_chans: Channels of the image.
        global_pool: timm's pooling name; '' keeps the feature map.
        drop_rate: Dropout before the classifier.
        design: A `Design`, or its fields as further keyword arguments.

    Raises:
        UserError: (a `ValueError`) for an impossible design.
    """

    head: nn.Module
    head_dist: nn.Module | None
    global_pool: SelectAdaptivePool2d

    def __init__(
        self,
        design: Design | None = None,
        *,
        num_classes: int = 1000,
        in_chans: int = 3,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
        **fields: Any,
    ) -> None:
        if design is not None and fields:
            raise UserError(f"{', '.join(fields)}: a whole design is given already; change its fields instead.")
        for field, value, least in (("num_classes", num_classes, 0), ("in_chans", in_chans, 1)):
            if type(value) is not int or value < least:
                raise UserError(f"{field} {value!r}: allowed are whole numbers from {least}.")
        nn.Module.__init__(self)  # timm's own constructor would build its fixed stem and stages
        self.design = design or _design(fields)
        self.num_classes = num_classes
        self.in_chans = in_chans
        self.drop_rate = drop_rate
        self.patch_embed = _stem(self.design, in_chans)
        self.stages = nn.Sequential(*_stages(self.design))
        self.feature_info = [
            {"num_chs": dim, "reduction": stride, "module": f"stages.{stage}"}
            for stage, (dim, stride) in enumerate(zip(self.design.embed_dim, self.design.strides, strict=True))
        ]
        self.num_features = self.head_hidden_size = self.design.embed_dim[-1]
        self.reset_classifier(num_classes, global_pool)

    def get_classifier(self) -> nn.Module:
        """The classifier (normalisation and linear layer, or one linear layer once fused)."""
        return self.head

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the classifier, or both of a distilled design, by fresh ones for `num_classes` (0: none)."""
        if global_pool is None:
            global_pool = str(self.global_pool.pool_type)
        self.num_classes = num_classes
        self.global_pool = SelectAdaptivePool2d(pool_type=global_pool).train(self.training)
        self.flatten = (nn.Flatten(1) if global_pool else nn.Identity()).train(self.training)
        self.head = self._classifier()
        self.head_dist = self._classifier() if self.design.distilled else None

    def _classifier(self) -> nn.Module:
        if self.num_classes < 1:
            return nn.Identity()
        return NormLinear(self.head_hidden_size, self.num_classes, **get_device_dtype(self)).train(self.training)

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        """Map images `(B, 3, H, W)` to the last stage's features `(B, C, H/s, W/s)`, s being its stride.

        Raises:
            UserError: (a `ValueError`) when a side is below that stride.
        """
        if not (torch.jit.is_tracing() or torch.compiler.is_compiling()):  # type: ignore[no-untyped-call]
            self.design.check_image_size(min(x.shape[-2:]))
        return self.stages(self.patch_embed(x))

    def forward_head(
        self, x: torch.Tensor, pre_logits: bool = False
    ) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        """Map features to logits `(B, classes)`.

        A distilled design returns the pair (classifier, distillation classifier) in training, and its mean in eval.
        """
        x = self.flatten(self.global_pool(x))
        if self.drop_rate > 0:
            x = F.dropout(x, p=self.drop_rate, training=self.training)
        if pre_logits:
            return x
        if self.head_dist is None:
            return self.head(x)
        pair = self.head(x), self.head_dist(x)
        return pair if self.training else (pair[0] + pair[1]) / 2

    def merge_heads(self) -> SHViT:
        """Fold both classifiers into one, in place, such that eval outputs stay: `head.bn` neutral, `head.l` merged."""
        if self.head_dist is None:
            return self
        if self.num_classes > 0:
            dtype = next(self.head.parameters()).dtype
            self.head = merged_classifier(self.head, self.head_dist).to(dtype).train(self.training)
        self.head_dist = None
        self.design = replace(self.design, distilled=False)
        if hasattr(self, "pretrained_cfg"):  # not when built without timm
            record_design(self, self.design)
        return self


def _design(values: dict[str, Any]) -> Design:
    try:
        return Design(**values)
    except TypeError as error:  # a field too many or too few
        raise UserError(f"design: {error}.") from error


def _stem(design: Design, in_chans: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, dim in zip((in_chans, *design.stem_dim), design.stem_dim, strict=False):
        layers += [Conv2dNorm(before, dim, 3, 2, 1), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def _stages(design: Design) -> list[Stage]:
    rates = calculate_drop_path_rates(design.drop_path, list(design.depth), stagewise=True)
    return [Stage(design, stage, rates[stage]) for stage in range(design.stages)]
