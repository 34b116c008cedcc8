"""Networks as they are deployed, and what they cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from shvit_pl.deploy.passes import at_size, fused
from shvit_pl.designs.cost import Cost, cost
from shvit_pl.errors import UserError
from shvit_pl.models import SHViT
from shvit_pl.models.open_network import OpenedNetwork, open_network

FUSED = "BatchNorm and residuals fused by fuse()"
REPARAMETERISED = "reparameterised by timm; further BatchNorm is left to the mode"


@dataclass(frozen=True)
class Deployed:
    """A network for inference, on the CPU.

    Attributes:
        model: In evaluation mode.
        cost: Parameters and MACs: of ours in closed form, BatchNorm not fused; of timm's counted on `model`.
        folded: What was done to it.
    """

    model: nn.Module
    cost: Cost
    folded: str


def open_all(names: tuple[str, ...], averaged: bool | None) -> dict[str, OpenedNetwork]:
    """Open every network by name; raises `UserError` for the first that can't be."""
    return {name: _open(name, averaged) for name in names}


def _open(name: str, averaged: bool | None) -> OpenedNetwork:
    try:
        return open_network(name, averaged)
    except UserError as error:
        if averaged and "averaged" in str(error):
            raise UserError(f"--weights ema: {error}") from error
        raise


def deployed(opened: OpenedNetwork, pixels: int) -> Deployed:
    """The network as it infers, and its cost; raises `UserError` where it can't take images of this side."""
    model = fused(at_size(opened, pixels))
    folded = FUSED if hasattr(model, "fuse") else REPARAMETERISED
    return Deployed(model, _cost(opened, model, pixels), folded)


def _cost(opened: OpenedNetwork, model: nn.Module, pixels: int) -> Cost:
    if isinstance(opened.model, SHViT):
        return cost(opened.model.design, opened.model.num_classes, pixels)
    counter: Any = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        model(torch.zeros(1, 3, pixels, pixels))
    return Cost(sum(parameter.numel() for parameter in model.parameters()), counter.get_total_flops() // 2)
