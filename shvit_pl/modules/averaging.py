"""Exponential moving average of the weights."""

from __future__ import annotations

import torch
from timm.utils import ModelEmaV3
from torch import Tensor, nn

from shvit_pl.modules.config import EmaConfig


def make_average(config: EmaConfig, model: nn.Module) -> ModelEmaV3 | None:
    """Make the average, beginning with a copy of `model`; None for a decay of 0."""
    if config.decay == 0:
        return None
    warmup = {"use_warmup": config.warmup_power > 0, "warmup_power": config.warmup_power or 1.0}
    return Average(model, decay=config.decay, **warmup).requires_grad_(False)


class Average(ModelEmaV3):
    """timm's average, updated in two operations on all tensors, without making two state dicts in every step."""

    def apply_update_(self, model: nn.Module, decay: float) -> None:
        """Move all floating-point tensors towards the model's, and copy the others."""
        pairs = list(zip(_tensors(self.module), _tensors(model), strict=True))
        moved = [pair for pair in pairs if pair[0].is_floating_point()]
        copied = [pair for pair in pairs if not pair[0].is_floating_point()]
        self._foreach_lerp_([mine for mine, _ in moved], [theirs for _, theirs in moved], weight=1 - decay)
        if copied:
            torch._foreach_copy_([mine for mine, _ in copied], [theirs for _, theirs in copied])


def _tensors(model: nn.Module) -> list[Tensor]:
    return [*model.parameters(), *model.buffers()]
