"""A network as it is deployed: for images of a size, and without what only training needs."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from timm.models import get_pretrained_cfg
from timm.utils.model import reparameterize_model
from torch import nn

from shvit_pl.models import SHViT
from shvit_pl.models.network_names import TIMM
from shvit_pl.models.open_network import OpenedNetwork, open_network


def at_size(opened: OpenedNetwork, pixels: int) -> nn.Module:
    """The network for images of this side: a copy, or built anew where its tensors depend on the side.

    Raises:
        UserError: where it can't take such images.
    """
    check_size(opened, pixels)
    if opened.origin == "timm" and pixels != opened.image_size and _is_fixed(opened.name):
        return open_network(opened.name, image_size=pixels).model
    return deepcopy(opened.model)


def check_size(opened: OpenedNetwork, pixels: int) -> None:
    """Raise `UserError` where a design can't take images of this side; of other networks, it shows when they run."""
    if isinstance(opened.model, SHViT):
        opened.model.design.check_image_size(pixels)


def _is_fixed(name: str) -> bool:
    return bool(get_pretrained_cfg(name.removeprefix(TIMM)).fixed_input_size)


def fused(model: nn.Module) -> nn.Module:
    """An equal copy in evaluation mode, with as few layers as its own methods know to make of it.

    Of ours, two classifiers are merged, and BatchNorm and residuals of depthwise convolutions are folded; of timm's,
    branches for training (RepVGG, FastViT) are merged too.
    """
    copy: Any = reparameterize_model(deepcopy(model).eval(), inplace=True)
    for step in ("merge_heads", "fuse"):
        copy = getattr(copy, step)() if hasattr(copy, step) else copy
    return copy.eval().requires_grad_(False)
