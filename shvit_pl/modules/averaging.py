"""Exponential moving average of the weights."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from timm.utils import ModelEmaV3
from torch import Tensor, nn

from shvit_pl.errors import UserError


@dataclass(frozen=True)
class EmaConfig:
    """Moving average of weights and buffers, evaluated beside the weights themselves (`val/acc1_ema`).

    Attributes:
        decay: Share of the average that a step keeps; 0 is no average (the official code's: 0.99996).
        warmup_power: The decay of step t is at most 1 - t^-power, for the average to forget the first weights: 1 is the
            plain mean of all steps so far, 0 is no warm-up.
    """

    decay: float = 0.0
    warmup_power: float = 2 / 3

    def __post_init__(self) -> None:
        if not 0 <= self.decay < 1:
            raise UserError(f"model.ema.decay {self.decay}: allowed is 0 (no average) to below 1, such as 0.9999.")
        if not 0 <= self.warmup_power <= 1:
            raise UserError(f"model.ema.warmup_power {self.warmup_power}: allowed is from 0 (no warm-up) to 1.")

    def build(self, model: nn.Module) -> ModelEmaV3 | None:
        """The average, beginning with a copy of `model`, or None."""
        if self.decay == 0:
            return None
        average = Average(
            model, decay=self.decay, use_warmup=self.warmup_power > 0, warmup_power=self.warmup_power or 1.0
        )
        return average.requires_grad_(False)


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
