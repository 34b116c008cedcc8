"""A network as it is deployed: without what only training needs."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from timm.utils.model import reparameterize_model
from torch import nn


def fused(model: nn.Module) -> nn.Module:
    """An equal copy in evaluation mode, with as few layers as its own methods know to make of it.

    Of ours, two classifiers are merged, and BatchNorm and residuals of depthwise convolutions are folded; of timm's,
    branches for training (RepVGG, FastViT) are merged too.
    """
    copy: Any = reparameterize_model(deepcopy(model).eval(), inplace=True)
    for step in ("merge_heads", "fuse"):
        copy = getattr(copy, step)() if hasattr(copy, step) else copy
    return copy.eval().requires_grad_(False)
