"""The optimizer, its learning rate schedule, and adaptive gradient clipping."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import cos, pi
from typing import Any

import torch
from timm.optim import create_optimizer_v2, get_optimizer_info, list_optimizers
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from shvit_pl.errors import UserError, did_you_mean, one_line
from shvit_pl.modules.config import Interval, OptimConfig

REFERENCE_BATCH = 512  # the global batch that `lr` is stated for, as in the official code
_GPU_ONLY = ("bnb", "fused")  # optimizers that can't even be made on a CPU, where their checkpoints may be measured
_FUSED = (torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD)


@dataclass(frozen=True)
class Schedule:
    """Linear warm-up and cosine.

    By step, the cosine begins where the warm-up ends. By epoch, it is the official code's: epochs 0 and 1 both run at
    `warmup_lr`, as its scheduler is stepped after each epoch, and the cosine counts from epoch 0.

    Attributes:
        peak: Peak learning rate.
        total: Steps or epochs of the whole run.
        warmup: Steps or epochs before the peak.
        warmup_lr: Learning rate at the start.
        min_lr: Learning rate after the end.
        interval: What is counted.
        warmup_shrunk: Whether the warm-up asked for was longer than a fifth of the run, and so was shortened to that.
    """

    peak: float
    total: int
    warmup: int
    warmup_lr: float
    min_lr: float
    interval: Interval = "step"
    warmup_shrunk: bool = False

    def __call__(self, count: int) -> float:
        """Learning rate of step or epoch `count`, as a multiple of the peak."""
        by_epoch = self.interval == "epoch"
        done = max(count - 1, 0) if by_epoch else count
        if done < self.warmup:
            lr = self.warmup_lr + (self.peak - self.warmup_lr) * done / self.warmup
        else:
            before = 0 if by_epoch else self.warmup
            progress = (done - before) / max(1, self.total - before)
            lr = self.min_lr + (self.peak - self.min_lr) * (1 + cos(pi * min(1.0, progress))) / 2
        return lr / self.peak


def check_optimizer(config: OptimConfig) -> None:
    """Raise `UserError` for an optimizer that timm doesn't have, that can't train here, or that refuses its options."""
    if config.name not in list_optimizers():
        hint = did_you_mean(config.name, list_optimizers()) or " (for example adamw, lamb, sgd)"
        raise UserError(f"model.optim.name {config.name!r}: no timm optimizer{hint}.")
    if get_optimizer_info(config.name).second_order:
        raise UserError(f"model.optim.name {config.name!r}: it needs second derivatives, which are not computed here.")
    if config.options and not config.name.startswith(_GPU_ONLY):
        _create([nn.Parameter(torch.zeros(2, 2))], config, lr=config.lr)  # zeros: no random number is drawn


def peak_lr(config: OptimConfig, global_batch: int) -> float:
    """Peak learning rate in force: `lr` times the global batch over 512."""
    return config.lr * global_batch / REFERENCE_BATCH


def make_schedule(config: OptimConfig, global_batch: int, total_steps: int, epochs: float) -> Schedule:
    """The schedule of a run; a warm-up longer than a fifth of the run shrinks to a fifth."""
    total = total_steps if config.interval == "step" else max(1, round(epochs))
    asked = round(total * config.warmup_epochs / max(epochs, 1e-9))
    warmup = min(asked, total // 5)
    peak = peak_lr(config, global_batch)
    warmup_lr, min_lr = min(config.warmup_lr, peak), min(config.min_lr, peak)  # of a tiny batch the peak is tiny too
    return Schedule(peak, total, warmup, warmup_lr, min_lr, config.interval, warmup_shrunk=warmup < asked)


def make_optimizer(
    model: nn.Module,
    config: OptimConfig,
    schedule: Schedule,
    weight_decay: float,
    extra_module: nn.Module | None = None,
    fused: bool = True,
) -> tuple[Optimizer, LambdaLR]:
    """The optimizer of all parameters, none of the 1-D ones decayed, and the scheduler to step once per interval.

    Args:
        model: The network.
        config: What the user says.
        schedule: Of the learning rate.
        weight_decay: In force.
        extra_module: What else learns, at the peak rate and without decay.
        fused: Take one kernel for all parameters, where the optimizer has it.
    """
    fast = {"fused": True} if fused and _has_fused(config) else {}
    rates = {"lr": schedule.peak, "weight_decay": weight_decay, "layer_decay": config.layer_decay}
    optimizer = _create(model, config, **rates, **fast)
    if extra_module is not None:
        optimizer.add_param_group({"params": list(extra_module.parameters()), "weight_decay": 0.0})
    for group in optimizer.param_groups:
        group["lr"] *= group.get("lr_scale", 1.0)  # of layer decay

    def rate(count: int) -> float:
        return schedule(count)  # a plain function: LambdaLR would write an object's values into checkpoints

    return optimizer, LambdaLR(optimizer, rate)


def place_steps(optimizer: Optimizer) -> None:
    """Put the counts of steps where the optimizer wants them; a checkpoint may be of another device, or not fused."""
    for group in optimizer.param_groups:
        for parameter in group["params"] if "fused" in group else ():
            state = optimizer.state.get(parameter, {})
            if isinstance(state.get("step"), Tensor):
                device = parameter.device if group["fused"] or group.get("capturable") else torch.device("cpu")
                state["step"] = state["step"].to(device, torch.float32)


def _has_fused(config: OptimConfig) -> bool:
    """Whether torch has it on every device, and the user says nothing else."""
    kind = get_optimizer_info(config.name).opt_class
    torchs = isinstance(kind, type) and issubclass(kind, _FUSED)
    return torchs and not {"fused", "foreach"} & config.options.keys()


def _create(model: nn.Module | list[nn.Parameter], config: OptimConfig, **settings: Any) -> Optimizer:
    """A timm optimizer; raises `UserError` when it does not take its options, or can't be had here."""
    try:
        return create_optimizer_v2(model, opt=config.name, **settings, **config.options)
    except Exception as error:  # every optimizer has its own way to refuse
        options = f"model.optim.options {config.options}: {config.name} does not take them"
        subject = options if config.options else f"model.optim.name {config.name!r}: it can't be had here"
        raise UserError(f"{subject} ({one_line(error)}).") from error


def clip_adaptively(parameters: Iterable[nn.Parameter], clip_factor: float, eps: float = 1e-3) -> None:
    """Scale the gradient of each unit down to a share of its weights' norm, in place: timm's `adaptive_clip_grad`.

    timm takes eight operations for each parameter; here most of them are one for all. The results are the same, bit for
    bit on a CPU.

    Args:
        parameters: Those without a gradient are left out.
        clip_factor: The share.
        eps: The least norm of weights, so that zeros can learn.
    """
    learning = [parameter for parameter in parameters if parameter.grad is not None]
    gradients = [parameter.grad for parameter in learning if parameter.grad is not None]
    if not learning:
        return
    scales, norms = _unit_norms([parameter.detach() for parameter in learning]), _unit_norms(gradients)
    torch._foreach_clamp_min_(scales, eps)
    torch._foreach_mul_(scales, clip_factor)
    torch._foreach_clamp_min_(norms, 1e-6)
    torch._foreach_div_(scales, norms)
    torch._foreach_clamp_max_(scales, 1.0)
    torch._foreach_mul_(gradients, scales)


def _unit_norms(tensors: list[Tensor]) -> list[Tensor]:
    """The norm of each unit (the first dimension), and of one-dimensional tensors as a whole; they broadcast."""
    vectors = [tensor for tensor in tensors if tensor.ndim <= 1]
    of_vectors = iter(torch._foreach_norm(vectors) if vectors else ())
    return [
        next(of_vectors)
        if tensor.ndim <= 1
        else torch.linalg.vector_norm(tensor, dim=tuple(range(1, tensor.ndim)), keepdim=True)
        for tensor in tensors
    ]
