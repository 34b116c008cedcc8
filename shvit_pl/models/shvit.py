"""The network: a stem, stages of blocks and one or two classifiers, built from a `Design`; what timm saves of it."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import torch
from timm.layers import SelectAdaptivePool2d, calculate_drop_path_rates, get_device_dtype
from timm.models.shvit import Conv2dNorm, NormLinear
from timm.models.shvit import SHViT as TimmSHViT
from torch import nn
from torch.fx import Proxy
from torch.nn import functional as F

from shvit_pl.designs.design import Design
from shvit_pl.designs.fingerprint import timm_name
from shvit_pl.errors import UserError
from shvit_pl.models.blocks import Stage

ENTRY_POINT = "shvit_pl"  # by which timm builds any design


class SHViT(TimmSHViT):
    """SHViT of any design, with timm's model contract and, for S1-S4, timm's `state_dict` keys.

    Args:
        design: The architecture.
        num_classes: Classes; 0 leaves the classifier out.
        in_chans: Channels of the image.
        global_pool: timm's pooling name; '' keeps the feature map.
        drop_rate: Dropout before the classifier.

    Raises:
        UserError: (a `ValueError`) for an impossible number of classes or channels.
    """

    def __init__(
        self,
        design: Design,
        *,
        num_classes: int = 1000,
        in_chans: int = 3,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
    ) -> None:
        for field, value, least in (("num_classes", num_classes, 0), ("in_chans", in_chans, 1)):
            if type(value) is not int or value < least:
                raise UserError(f"{field} {value!r}: allowed are whole numbers from {least}.")
        nn.Module.__init__(self)  # timm's own constructor would build its fixed stem and stages
        self.design = design
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
        self.global_pool: SelectAdaptivePool2d = SelectAdaptivePool2d(pool_type=global_pool).train(self.training)
        self.flatten = (nn.Flatten(1) if global_pool else nn.Identity()).train(self.training)
        self.head: nn.Module = self._classifier()
        self.head_dist: nn.Module | None = self._classifier() if self.design.distilled else None

    def _classifier(self) -> nn.Module:
        if self.num_classes < 1:
            return nn.Identity()
        return NormLinear(self.head_hidden_size, self.num_classes, **get_device_dtype(self)).train(self.training)

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        """Map images `(B, 3, H, W)` to the last stage's features `(B, C, H/s, W/s)`, s being its stride.

        Raises:
            UserError: (a `ValueError`) when a side is below that stride.
        """
        if not torch.jit.is_scripting():
            self._check_size(x)
        return self.stages(self.patch_embed(x))

    def _check_size(self, x: torch.Tensor) -> None:
        tracing = torch.jit.is_tracing() or torch.compiler.is_compiling()  # type: ignore[no-untyped-call]
        if not (tracing or isinstance(x, Proxy)):  # of torch.fx: it has no numbers yet
            self.design.check_image_size(min(x.shape[-2:]))

    def forward_head(self, x: torch.Tensor, pre_logits: bool = False) -> torch.Tensor:
        """Map features to logits `(B, classes)`.

        A distilled design returns the pair (classifier, distillation classifier) in training, and its mean in eval;
        in TorchScript always the mean, as its functions have one type.
        """
        x = self.flatten(self.global_pool(x))
        if self.drop_rate > 0:
            x = F.dropout(x, p=self.drop_rate, training=self.training)
        if pre_logits:
            return x
        if self.head_dist is None:
            return self.head(x)
        first, second = self.head(x), self.head_dist(x)
        if self.training and not torch.jit.is_scripting():
            pair: Any = first, second  # no tensor, but TorchScript allows one type per function
            return pair
        return (first + second) / 2

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


def _stem(design: Design, in_chans: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, dim in zip((in_chans, *design.stem_dim), design.stem_dim, strict=False):
        layers += [Conv2dNorm(before, dim, 3, 2, 1), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def _stages(design: Design) -> list[Stage]:
    rates = calculate_drop_path_rates(design.drop_path, list(design.depth), stagewise=True)
    return [Stage(design, stage, rates[stage]) for stage in range(design.stages)]


@torch.no_grad()
def merged_classifier(first: nn.Module, second: nn.Module) -> NormLinear:
    """Return one classifier that gives the mean of two in eval mode: a neutral `bn`, and everything in `l`.

    Both are a `NormLinear`, or the linear layer that fusing leaves of it.
    """
    pair = [head.double() for head in (first, second)]  # in double precision the fold costs no accuracy
    linear: list[Any] = [head.fuse() if isinstance(head, NormLinear) else head for head in pair]
    weight = linear[0].weight
    merged = NormLinear(weight.shape[1], weight.shape[0], device=weight.device).double()
    merged.bn.running_var.fill_(1 - merged.bn.eps)  # variance + eps is then 1
    merged.l.weight.copy_((linear[0].weight + linear[1].weight) / 2)
    merged.l.bias.copy_((linear[0].bias + linear[1].bias) / 2)
    return merged


def record_design(model: Any, design: Design) -> None:
    """Let timm save a network under timm's own name where it has that very network, else with its whole design.

    Args:
        model: Built by timm's builder.
        design: The design of the network as it is now.
    """
    name = timm_name(design)
    model._model_args = {} if name else asdict(design)
    model.pretrained_cfg = {**model.pretrained_cfg, "architecture": name or ENTRY_POINT}
