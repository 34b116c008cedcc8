"""The network: a stem, stages of blocks and one or two classifiers, built from a `Design`, also through timm."""

from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from typing import Any, Self

import torch
from timm.layers import calculate_drop_path_rates, get_device_dtype
from timm.models import build_model_with_cfg, generate_default_cfgs, get_pretrained_cfg, register_model
from timm.models.shvit import Conv2dNorm, NormLinear
from timm.models.shvit import SHViT as TimmSHViT
from torch import nn

from shvit_pl.compat import record_model_args
from shvit_pl.designs.config import DesignConfig, resolve_design
from shvit_pl.designs.design import Design, design_of
from shvit_pl.errors import UserError
from shvit_pl.models.blocks import Stage

ENTRY_POINT = "shvit_pl"  # name by which timm builds any design


class SHViT(TimmSHViT):
    """SHViT of any design, with timm's model contract and, for S1-S4, timm's `state_dict` keys.

    Args:
        design: The architecture.
        num_classes: Classes; 0 leaves the classifier out.
        in_chans: Channels of the image.
        global_pool: timm's pooling name; '' keeps the feature map.
        drop_rate: Dropout before the classifier.

    Raises `UserError` (a `ValueError`) for an impossible number of classes or channels.
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
        self.in_chans = in_chans
        self.drop_rate = drop_rate
        # each convolution halves the side and doubles the width: (B, 3, H, W) -> (B, C, H/16, W/16) in S1
        steps = zip((in_chans, *design.stem_dim), design.stem_dim, strict=False)
        stem = [layer for before, dim in steps for layer in (Conv2dNorm(before, dim, 3, 2, 1), nn.ReLU())]
        self.patch_embed = nn.Sequential(*stem[:-1])  # no activation after the last one, as in the official code
        rates = calculate_drop_path_rates(design.drop_path, list(design.depth), stagewise=True)
        self.stages = nn.Sequential(*(Stage(design, stage, rates[stage]) for stage in range(design.stages)))
        self.feature_info = [
            {"num_chs": dim, "reduction": stride, "module": f"stages.{stage}"}
            for stage, (dim, stride) in enumerate(zip(design.embed_dim, design.strides, strict=True))
        ]
        self.num_features = self.head_hidden_size = design.embed_dim[-1]
        self.reset_classifier(num_classes, global_pool)

    def get_classifier(self) -> nn.Module:
        """Return the classifier: normalization and linear layer, or one linear layer once fused."""
        return self.head

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the classifier, or both of a distilled design, by fresh ones for `num_classes` (0: none)."""
        super().reset_classifier(num_classes, global_pool)
        self.head_dist: nn.Module | None = None
        if self.design.distilled and num_classes > 0:
            head = NormLinear(self.head_hidden_size, num_classes, **get_device_dtype(self))
            self.head_dist = head.train(self.training)
        if hasattr(self, "pretrained_cfg"):  # a fresh classifier's classes have no names
            set_classes(self, {})

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        """Map images `(B, 3, H, W)` to the last stage's features `(B, C, H/s, W/s)`, s being its stride.

        Raises `UserError` (a `ValueError`) when a side is below that stride.
        """
        if not torch.jit.is_scripting():
            tracing = torch.jit.is_tracing() or torch.compiler.is_compiling()  # type: ignore[no-untyped-call]
            if not (tracing or isinstance(x, torch.fx.Proxy)):  # torch.fx's stand-in for a tensor has no numbers yet
                self.design.check_image_size(min(x.shape[-2:]))
        return self.stages(self.patch_embed(x))

    def forward_head(self, x: torch.Tensor, pre_logits: bool = False) -> torch.Tensor:
        """Map features `(B, C, H/s, W/s)` to logits `(B, classes)`, or with `pre_logits` to pooled features `(B, C)`.

        A distilled design returns the pair (classifier, distillation classifier) in training, and its mean in eval;
        in TorchScript always the mean, as its functions have one type.
        """
        x = self.flatten(self.global_pool(x))  # (B, C)
        if self.drop_rate > 0:
            x = nn.functional.dropout(x, p=self.drop_rate, training=self.training)
        if pre_logits:
            return x
        if self.head_dist is None:
            return self.head(x)
        first, second = self.head(x), self.head_dist(x)  # (B, classes) each
        if self.training and not torch.jit.is_scripting():
            pair: Any = first, second  # no tensor, but TorchScript allows one type per function
            return pair
        return (first + second) / 2

    def merge_heads(self) -> Self:
        """Fold both classifiers into one, in place, such that eval outputs stay: `head.bn` neutral, `head.l` merged."""
        if self.head_dist is None:
            return self
        head = self.get_classifier()
        dtype = next(head.parameters()).dtype
        self.head = merged_classifier(head, self.head_dist).to(dtype).train(self.training)
        self.head_dist = None
        self.design = replace(self.design, distilled=False)
        if hasattr(self, "pretrained_cfg"):  # not when built without timm
            _record_design(self)
        return self


@torch.no_grad()
def merged_classifier(first: nn.Module, second: nn.Module) -> NormLinear:
    """Return one classifier that gives the mean of two in eval mode: a neutral `bn`, and everything in `l`.

    Both are a `NormLinear`, or the linear layer that fusing leaves of it.
    """
    pair = [head.double() for head in (first, second)]  # in double precision the fold costs no accuracy
    linear: list[Any] = [head.fuse() if isinstance(head, NormLinear) else head for head in pair]
    weight = linear[0].weight  # (classes, C)
    merged = NormLinear(weight.shape[1], weight.shape[0], device=weight.device).double()
    merged.bn.running_var.fill_(1 - merged.bn.eps)  # variance + eps is then 1
    merged.l.weight.copy_((linear[0].weight + linear[1].weight) / 2)
    merged.l.bias.copy_((linear[0].bias + linear[1].bias) / 2)
    return merged


# ---- building through timm

_S1 = get_pretrained_cfg("shvit_s1").to_dict(remove_source=True, remove_null=True)
_OF_WEIGHTS = ("architecture", "tag", "origin_url", "paper_name")
default_cfgs = generate_default_cfgs(
    {ENTRY_POINT: {key: value for key, value in _S1.items() if key not in _OF_WEIGHTS}}
)


def create_model(name: str = "s1", *, num_classes: int = 1000, **changes: Any) -> SHViT:
    """Build a SHViT of a named design with changes.

    Args:
        name: s1 to s4 (paper Table 1), tiny, or any other name that `shvit-pl designs` prints.
        num_classes: Classes; 0 leaves the classifier out.
        changes: Fields of `DesignConfig` (`patch_size`, `stages`, `stage1`, `mixers`, ...), and keyword arguments of
            `SHViT` and of timm's builder (`in_chans`, `global_pool`, `drop_rate`, `features_only`, ...).

    Returns:
        A `SHViT`, freshly initialized, or timm's feature extractor with `features_only=True`.

    Raises `UserError` (a `ValueError`) with the field, its value and what is allowed.
    """
    builder = ("in_chans", "global_pool", "drop_rate", "features_only", "out_indices", "feature_cls", "output_stride")
    options = {key: changes.pop(key) for key in builder if key in changes}
    return build_network(resolve_design(name, **changes), num_classes=num_classes, **options)


@register_model  # type: ignore[untyped-decorator]
def shvit_pl(pretrained: bool = False, **kwargs: Any) -> SHViT:
    """Build any design for timm: a `name` with changes as for `create_model`, or all fields of a `Design`."""
    complete, changes = ({field.name for field in fields(kind)} for kind in (Design, DesignConfig))
    choices = {key: kwargs.pop(key) for key in complete | changes if key in kwargs}
    recorded = complete <= choices.keys()  # timm passes what it recorded
    design = design_of(choices) if recorded else resolve_design(**{"name": "s1", **choices})
    return build_network(design, pretrained=pretrained, **kwargs)


def build_network(design: Design, *, pretrained: bool = False, **kwargs: Any) -> SHViT:
    """Build a design through timm, under timm's own name where timm has this very network, which has weights there.

    `kwargs` are those of `SHViT` and of timm's builder.
    """
    if kwargs.get("pretrained_cfg") is None:
        side, grid = design.image_size, design.grids(design.image_size)[-1]
        sizes = {"input_size": (kwargs.get("in_chans", 3), side, side), "pool_size": (grid, grid)}
        kwargs["pretrained_cfg_overlay"] = {**sizes, **(kwargs.get("pretrained_cfg_overlay") or {})}
    model: SHViT = build_model_with_cfg(
        SHViT,
        design.timm_name or ENTRY_POINT,
        pretrained,
        design=design,
        feature_cfg={"out_indices": tuple(range(design.stages)), "flatten_sequential": True},
        **kwargs,
    )
    if isinstance(model, SHViT):  # not its feature extractor
        _record_design(model)
    return model


def set_classes(model: Any, names: Mapping[str, Any]) -> None:
    """Let a network's `pretrained_cfg` have its number of classes, and no other names than these `label_names`."""
    others = {key: value for key, value in model.pretrained_cfg.items() if not key.startswith("label_")}
    known = {key: names[key] for key in names if key.startswith("label_") and names[key] is not None}
    model.pretrained_cfg = {**others, "num_classes": model.num_classes, **known}


def _record_design(model: Any) -> None:
    """Let timm save the network under its own name where it has that very network, else with its whole design."""
    name = model.design.timm_name
    channels = {} if model.in_chans == 3 else {"in_chans": model.in_chans}
    record_model_args(model, {**({} if name else asdict(model.design)), **channels})
    model.pretrained_cfg = {**model.pretrained_cfg, "architecture": name or ENTRY_POINT}
