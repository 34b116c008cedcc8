"""Classifiers: normalisation and a linear layer, and the merging of two into one."""

from __future__ import annotations

from typing import Any

import torch
from timm.models.shvit import NormLinear
from torch import nn


@torch.no_grad()
def merged_classifier(first: nn.Module, second: nn.Module) -> NormLinear:
    """One classifier that gives the mean of two in eval mode: a neutral `bn`, and everything in `l`.

    Args:
        first: A `NormLinear`, or the linear layer that fusing leaves of it.
        second: Likewise.
    """
    pair = [head.double() for head in (first, second)]  # in double precision the fold costs no accuracy
    linear: list[Any] = [head.fuse() if isinstance(head, NormLinear) else head for head in pair]
    weight = linear[0].weight
    merged = NormLinear(weight.shape[1], weight.shape[0], device=weight.device).double()
    merged.bn.running_var.fill_(1 - merged.bn.eps)  # variance + eps is then 1
    merged.l.weight.copy_((linear[0].weight + linear[1].weight) / 2)
    merged.l.bias.copy_((linear[0].bias + linear[1].bias) / 2)
    return merged
