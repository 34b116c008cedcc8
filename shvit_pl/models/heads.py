"""Classifiers: normalisation and a linear layer, and the merging of two into one."""

from __future__ import annotations

import torch
from timm.models.shvit import NormLinear


@torch.no_grad()
def merged_classifier(first: NormLinear, second: NormLinear) -> NormLinear:
    """One classifier that gives the mean of two in eval mode: a neutral `bn`, and everything in `l`."""
    features, classes = first.l.in_features, first.l.out_features
    linear = [head.double().fuse() for head in (first, second)]  # in double precision the fold costs no accuracy
    merged = NormLinear(features, classes, device=first.l.weight.device).double()
    merged.bn.running_var.fill_(1 - merged.bn.eps)  # variance + eps is then 1
    merged.l.weight.copy_((linear[0].weight + linear[1].weight) / 2)
    merged.l.bias.copy_((linear[0].bias + linear[1].bias) / 2)
    return merged
