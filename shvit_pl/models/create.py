"""Building networks: of a resolved design, of a name with changes, and by timm's entry point."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from timm.models import build_model_with_cfg, generate_default_cfgs, register_model

from shvit_pl.designs.config import DesignConfig, resolve_design
from shvit_pl.designs.design import Design
from shvit_pl.designs.fingerprint import timm_name
from shvit_pl.models.shvit import ENTRY_POINT, SHViT, record_design

default_cfgs = generate_default_cfgs(
    {
        "shvit_pl": {
            "url": "",
            "num_classes": 1000,
            "input_size": (3, 224, 224),
            "pool_size": (4, 4),
            "crop_pct": 0.875,
            "interpolation": "bicubic",
            "mean": (0.485, 0.456, 0.406),
            "std": (0.229, 0.224, 0.225),
            "first_conv": "patch_embed.0.c",
            "classifier": "head.l",
            "license": "mit",
            "paper_ids": "arXiv:2401.16456",
        }
    }
)


def create_model(name: str = "s1", *, num_classes: int = 1000, **changes: Any) -> SHViT:
    """Build a SHViT of a named design with changes.

    Args:
        name: s1 to s4 (paper Table 1), tiny, or any other name that `shvit-pl designs` prints.
        num_classes: Classes; 0 leaves the classifier out.
        changes: Fields of `DesignConfig` (`patch_size`, `stages`, `stage1`, `mixers`, ...), and keyword arguments of
            `SHViT` and of timm's builder (`in_chans`, `global_pool`, `drop_rate`, `features_only`, ...).

    Returns:
        A `SHViT`, freshly initialised, or timm's feature extractor with `features_only=True`.

    Raises:
        UserError: (a `ValueError`) names the field, the value and what is allowed.
    """
    builder = ("in_chans", "global_pool", "drop_rate", "features_only", "out_indices", "feature_cls", "output_stride")
    options = {key: changes.pop(key) for key in builder if key in changes}
    return build_network(resolve_design(name, **changes), num_classes=num_classes, **options)


@register_model  # type: ignore[untyped-decorator]
def shvit_pl(pretrained: bool = False, **kwargs: Any) -> SHViT:
    """Build any design for timm: a `name` with changes as for `create_model`, or all fields of a `Design`."""
    complete, changes = ({field.name for field in fields(kind)} for kind in (Design, DesignConfig))
    choices = {key: kwargs.pop(key) for key in complete | changes if key in kwargs}
    if complete <= choices.keys():  # as timm recorded them
        design = Design(**{key: choices[key] for key in complete})
    else:
        design = resolve_design(**{"name": "s1", **choices})
    return build_network(design, pretrained=pretrained, **kwargs)


def build_network(design: Design, *, pretrained: bool = False, **kwargs: Any) -> SHViT:
    """Build a design through timm, under timm's own name where timm has this very network.

    Args:
        design: The architecture.
        pretrained: Load the weights that timm has of it.
        kwargs: Keyword arguments of `SHViT` and of timm's builder.
    """
    variant = timm_name(design) or ENTRY_POINT
    if kwargs.get("pretrained_cfg") is None:
        side, grid = design.image_size, design.grids(design.image_size)[-1]
        sizes = {"input_size": (kwargs.get("in_chans", 3), side, side), "pool_size": (grid, grid)}
        kwargs["pretrained_cfg_overlay"] = {**sizes, **(kwargs.get("pretrained_cfg_overlay") or {})}
    model: SHViT = build_model_with_cfg(
        SHViT,
        variant,
        pretrained,
        design=design,
        feature_cfg={"out_indices": tuple(range(design.stages)), "flatten_sequential": True},
        **kwargs,
    )
    if isinstance(model, SHViT):  # not its feature extractor
        record_design(model, design)
    return model
