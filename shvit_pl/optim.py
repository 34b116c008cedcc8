"""The optimiser and its learning rate schedule."""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, pi

from timm.optim import create_optimizer_v2, list_optimizers
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from shvit_pl.errors import UserError, did_you_mean

REFERENCE_BATCH = 512  # the global batch that `lr` is stated for, as in the official code


@dataclass(frozen=True)
class OptimConfig:
    """Optimiser and schedule.

    Attributes:
        name: Any timm optimiser.
        lr: Peak learning rate at a global batch of 512; scaled linearly with the global batch (paper: 1e-3, that is
            4e-3 at its 2048).
        weight_decay: Not applied to biases, normalisation and other one-dimensional parameters.
        warmup_epochs: Epochs of linear warm-up from warmup_lr; at most a fifth of the run.
        warmup_lr: Learning rate of the first step (not scaled).
        min_lr: Learning rate at the end of the cosine (not scaled).
    """

    name: str = "adamw"
    lr: float = 1e-3
    weight_decay: float = 0.025
    warmup_epochs: float = 5.0
    warmup_lr: float = 1e-6
    min_lr: float = 1e-5

    def __post_init__(self) -> None:
        if self.name not in list_optimizers():
            hint = did_you_mean(self.name, list_optimizers()) or " (for example adamw, lamb, sgd)"
            raise UserError(f"model.optim.name {self.name!r}: no timm optimiser{hint}.")
        for field in ("lr", "weight_decay", "warmup_epochs", "warmup_lr", "min_lr"):
            value = getattr(self, field)
            if value < 0 or (field == "lr" and value == 0):
                allowed = "above 0" if field == "lr" else "0 or more"
                raise UserError(f"model.optim.{field} {value}: allowed is {allowed}.")


@dataclass(frozen=True)
class Schedule:
    """Linear warm-up and cosine, one value per step.

    Attributes:
        peak: Peak learning rate.
        total_steps: Optimiser steps of the whole run.
        warmup_steps: Steps before the peak.
        warmup_lr: Learning rate of step 0.
        min_lr: Learning rate after the last step.
        warmup_shrunk: Whether the warm-up asked for was longer than a fifth of the run, and so was shortened to that.
    """

    peak: float
    total_steps: int
    warmup_steps: int
    warmup_lr: float
    min_lr: float
    warmup_shrunk: bool = False

    def __call__(self, step: int) -> float:
        """Learning rate of `step`, as a multiple of the peak."""
        if step < self.warmup_steps:
            lr = self.warmup_lr + (self.peak - self.warmup_lr) * step / self.warmup_steps
        else:
            progress = (step - self.warmup_steps) / max(1, self.total_steps - self.warmup_steps)
            lr = self.min_lr + (self.peak - self.min_lr) * (1 + cos(pi * min(1.0, progress))) / 2
        return lr / self.peak


def peak_lr(config: OptimConfig, global_batch: int) -> float:
    """Peak learning rate in force: `lr` times the global batch over 512."""
    return config.lr * global_batch / REFERENCE_BATCH


def make_schedule(config: OptimConfig, global_batch: int, total_steps: int, epochs: float) -> Schedule:
    """The schedule of a run; a warm-up longer than a fifth of the run shrinks to a fifth."""
    asked = round(total_steps * config.warmup_epochs / max(epochs, 1e-9))
    warmup = min(asked, total_steps // 5)
    peak = peak_lr(config, global_batch)
    warmup_lr, min_lr = min(config.warmup_lr, peak), min(config.min_lr, peak)  # of a tiny batch the peak is tiny too
    return Schedule(peak, total_steps, warmup, warmup_lr, min_lr, warmup_shrunk=warmup < asked)


def make_optimizer(model: nn.Module, config: OptimConfig, schedule: Schedule) -> tuple[Optimizer, LambdaLR]:
    """The optimiser of all parameters, none of the 1-D ones decayed, and the scheduler to step after every step."""
    optimizer = create_optimizer_v2(model, opt=config.name, lr=schedule.peak, weight_decay=config.weight_decay)
    return optimizer, LambdaLR(optimizer, schedule)
