"""The optimizer, its learning rate schedule, and adaptive gradient clipping."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from math import cos, isfinite, pi
from typing import Any, Literal

import torch
from timm.optim import create_optimizer_v2, get_optimizer_info, list_optimizers
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from shvit_pl.errors import UserError, did_you_mean, one_line

REFERENCE_BATCH = 512  # the global batch that `lr` is stated for, as in the official code
Interval = Literal["step", "epoch"]
_OF_GPUS = ("bnb", "fused")  # optimisers that can't even be made on a CPU, where their checkpoints may be measured
_FUSED = (torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD)


@dataclass(frozen=True)
class OptimConfig:
    """Optimiser and schedule.

    Attributes:
        name: Any timm optimiser.
        lr: Peak learning rate at a global batch of 512; scaled linearly with the global batch (paper: 1e-3, that is
            4e-3 at its 2048).
        weight_decay: Not applied to biases, normalisation and other one-dimensional parameters; auto takes the paper's
            of the design (S1 0.025, S2 0.032, S3 0.035, S4 0.03).
        warmup_epochs: Epochs of linear warm-up from warmup_lr; at most a fifth of the run.
        warmup_lr: Learning rate of the first step (not scaled).
        min_lr: Learning rate at the end of the cosine (not scaled).
        interval: step follows warm-up and cosine at every step; epoch keeps one rate through an epoch, one epoch late,
            as the official code does.
        agc: Adaptive gradient clipping: the most that a unit's gradient may measure, as a share of its weights' norm
            (the official code's: 0.02); 0 is none.
        layer_decay: Factor on the learning rate from each layer to the one before it; null or 1 is none.
        options: Further arguments of the optimiser, such as {betas: [0.9, 0.95]}.
    """

    name: str = "adamw"
    lr: float = 1e-3
    weight_decay: float | Literal["auto"] = 0.025
    warmup_epochs: float = 5.0
    warmup_lr: float = 1e-6
    min_lr: float = 1e-5
    interval: Interval = "step"
    agc: float = 0.0
    layer_decay: float | None = None
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.name not in list_optimizers():
            hint = did_you_mean(self.name, list_optimizers()) or " (for example adamw, lamb, sgd)"
            raise UserError(f"model.optim.name {self.name!r}: no timm optimiser{hint}.")
        for flag in ("lr", "weight_decay", "warmup_epochs", "warmup_lr", "min_lr", "agc"):
            value = getattr(self, flag)
            if value != "auto" and not (isfinite(value) and (value > 0 or (flag != "lr" and value == 0))):
                allowed = "above 0" if flag == "lr" else "from 0"
                raise UserError(f"model.optim.{flag} {value}: allowed is a finite number {allowed}.")
        if self.layer_decay is not None and not 0 < self.layer_decay <= 1:
            raise UserError(f"model.optim.layer_decay {self.layer_decay}: allowed is above 0 and at most 1.")
        twice = [key for key in self.options if key in ("lr", "weight_decay", "layer_decay")]
        if twice:
            raise UserError(f"model.optim.options {self.options}: {twice[0]} has a flag, --model.optim.{twice[0]}.")
        if get_optimizer_info(self.name).second_order:
            raise UserError(
                f"model.optim.name {self.name!r}: it needs second derivatives, which are not computed here."
            )
        if self.options and not self.name.startswith(_OF_GPUS):  # a mistake in them shows before anything is opened
            _create([nn.Parameter(torch.zeros(2, 2))], self, lr=self.lr)  # zeros: no random number is drawn


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
    """The optimiser of all parameters, none of the 1-D ones decayed, and the scheduler to step once per interval.

    Args:
        model: The network.
        config: What the user says.
        schedule: Of the learning rate.
        weight_decay: In force.
        extra_module: What else learns, at the peak rate and without decay.
        fused: Take one kernel for all parameters, where the optimiser has it.
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
    """Put the counts of steps where the optimiser wants them; a checkpoint may be of another device, or not fused."""
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
    """A timm optimiser; raises `UserError` when it does not take its options, or can't be had here."""
    try:
        return create_optimizer_v2(model, opt=config.name, **settings, **config.options)
    except Exception as error:  # every optimiser has its own way to refuse
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
