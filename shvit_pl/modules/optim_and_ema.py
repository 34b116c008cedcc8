"""The optimizer, its learning rate schedule, adaptive gradient clipping, and the moving average of the weights."""

from collections.abc import Iterable
from dataclasses import dataclass
from inspect import signature
from math import cos, pi
from typing import Any

import torch
from timm.optim import create_optimizer_v2, get_optimizer_info, list_optimizers
from timm.utils import ModelEmaV3
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import get_ema_multi_avg_fn

from shvit_pl.compat import clip_to_norms, copy_tensors, vector_norms
from shvit_pl.errors import UserError, did_you_mean, one_line
from shvit_pl.modules.config import EmaConfig, Interval, OptimConfig

_GPU_ONLY = ("bnb", "fused")  # optimizers that can't even be made on a CPU, where their checkpoints may be measured
_FUSED = (torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD)


@dataclass(frozen=True)
class Schedule:
    """Linear warm-up, then cosine or drops.

    By step, the cosine begins where the warm-up ends. By epoch, it is the official code's: epochs 0 and 1 both run at
    `warmup_lr`, as its scheduler is stepped after each epoch, and the cosine counts from epoch 0.
    """

    peak: float
    """Peak learning rate."""
    total: int
    """Steps or epochs of the whole run."""
    warmup: int
    """Steps or epochs before the peak."""
    warmup_lr: float
    """Learning rate at the start."""
    min_lr: float
    """Learning rate after the end."""
    interval: Interval = "step"
    """The unit of the counts."""
    warmup_shrunk: bool = False
    """The configured warm-up was longer than a fifth of the run, and was shortened to that."""
    shares: tuple[tuple[int, float], ...] = ()
    """From which step or epoch on the rate is which share of the curve, where the images of a step change."""
    drops: tuple[int, ...] | None = None
    """Steps from each of which on the rate is a tenth, instead of the cosine."""

    def __call__(self, count: int) -> float:
        """Return the learning rate of step or epoch `count`, as a multiple of the peak."""
        by_epoch = self.interval == "epoch"
        done = max(count - 1, 0) if by_epoch else count  # the official scheduler lags one epoch behind
        if done < self.warmup:
            lr = self.warmup_lr + (self.peak - self.warmup_lr) * done / self.warmup
        elif self.drops is not None:
            lr = self.peak * 0.1 ** sum(done >= drop for drop in self.drops)
        else:
            before = 0 if by_epoch else self.warmup
            progress = (done - before) / max(1, self.total - before)
            lr = self.min_lr + (self.peak - self.min_lr) * (1 + cos(pi * min(1.0, progress))) / 2
        share = next((each for start, each in reversed(self.shares) if count >= start), 1.0)
        return share * lr / self.peak


def check_optimizer(config: OptimConfig) -> None:
    """Raise `UserError` for an optimizer that timm doesn't have, that can't train here, or that refuses its options."""
    if config.name not in list_optimizers():
        hint = did_you_mean(config.name, list_optimizers()) or " (for example adamw, lamb, sgd)"
        raise UserError(f"model.optim.name {config.name!r}: no timm optimizer{hint}.")
    if get_optimizer_info(config.name).second_order:
        raise UserError(f"model.optim.name {config.name!r}: it needs second derivatives, which are not computed here.")
    if config.options and not config.name.startswith(_GPU_ONLY):
        _create([nn.Parameter(torch.zeros(2, 2))], config, lr=config.lr)  # zeros: no random number is drawn


def make_schedule(config: OptimConfig, global_batch: int, total_steps: int, epochs: float) -> Schedule:
    """Return the schedule of a run: a peak for its global batch, and a warm-up of at most a fifth of it."""
    total = total_steps if config.interval == "step" else max(1, round(epochs))
    wanted = round(total * config.warmup_epochs / max(epochs, 1e-9))
    if config.warmup_steps is not None:
        wanted = config.warmup_steps
    warmup = min(wanted, total // 5)
    peak = config.lr * global_batch / config.reference_batch
    warmup_lr, min_lr = min(config.warmup_lr, peak), min(config.min_lr, peak)  # a tiny batch has a tiny peak
    drops = None
    if config.drops is not None:
        drops = tuple(round(total_steps * drop / max(epochs, 1e-9)) for drop in config.drops)
    return Schedule(peak, total, warmup, warmup_lr, min_lr, config.interval, warmup_shrunk=warmup < wanted, drops=drops)


def make_optimizer(
    model: nn.Module,
    config: OptimConfig,
    schedule: Schedule,
    weight_decay: float,
    extra_module: nn.Module | None = None,
    fused: bool = True,
) -> tuple[Optimizer, LambdaLR]:
    """Make the optimizer, without weight decay of 1-D parameters, and the scheduler to step once per interval.

    An `extra_module` learns too, at the peak rate and without decay; `fused` uses one kernel for all parameters, where
    the optimizer has it.
    """
    kind = get_optimizer_info(config.name).opt_class
    has_fused = isinstance(kind, type) and issubclass(kind, _FUSED)  # torch has these on every device
    fast = {"fused": True} if fused and has_fused and not {"fused", "foreach"} & config.options.keys() else {}
    rates = {"lr": schedule.peak, "weight_decay": weight_decay, "layer_decay": config.layer_decay}
    optimizer = _create(model, config, **rates, **fast)
    if extra_module is not None:
        optimizer.add_param_group({"params": list(extra_module.parameters()), "weight_decay": 0.0})
    for group in optimizer.param_groups:
        group["lr"] *= group.get("lr_scale", 1.0)  # layer decay

    def rate(count: int) -> float:
        return schedule(count)  # a plain function: LambdaLR would write an object's values into checkpoints

    return optimizer, LambdaLR(optimizer, rate)


def place_steps(optimizer: Optimizer) -> None:
    """Move the step counts to the optimizer's device: a checkpoint may come from another one, or not be fused."""
    for group in optimizer.param_groups:
        for parameter in group["params"] if "fused" in group else ():
            state = optimizer.state.get(parameter, {})
            if isinstance(state.get("step"), Tensor):
                device = parameter.device if group["fused"] or group.get("capturable") else torch.device("cpu")
                state["step"] = state["step"].to(device, torch.float32)


def _create(model: nn.Module | list[nn.Parameter], config: OptimConfig, **settings: Any) -> Optimizer:
    """Make a timm optimizer; raises `UserError` when it does not take its options, or is not available here."""
    try:
        return create_optimizer_v2(model, opt=config.name, **settings, **config.options)
    except Exception as error:  # every optimizer has its own way to refuse
        if not config.options:
            raise UserError(
                f"model.optim.name {config.name!r}: not available here ({one_line(error)}). Give another."
            ) from error
        kind = get_optimizer_info(config.name).opt_class
        taken = signature(kind).parameters.keys() - {"params"} if isinstance(kind, type) else set()
        unknown = [f"it has no {name}" for name in config.options if name not in taken and "kwargs" not in taken]
        raise UserError(
            f"model.optim.options {config.options}: {config.name} does not take them "
            f"({[*unknown, one_line(error)][0]}); its options are {', '.join(sorted(taken))}."
        ) from error


def clip_adaptively(parameters: Iterable[nn.Parameter], clip_factor: float, eps: float = 1e-3) -> None:
    """Scale the gradient of each unit down to a share of its weights' norm, in place: timm's `adaptive_clip_grad`.

    timm takes eight operations for each parameter; here most of them are one for all. The results are the same, bit for
    bit on a CPU. `eps` is the least norm of weights that counts, so that zeros can learn.
    """
    learning = [parameter for parameter in parameters if parameter.grad is not None]
    gradients = [parameter.grad for parameter in learning if parameter.grad is not None]
    if not learning:
        return
    weight_norms, norms = _unit_norms([parameter.detach() for parameter in learning]), _unit_norms(gradients)
    clip_to_norms(gradients, norms, weight_norms, clip_factor, eps)


def _unit_norms(tensors: list[Tensor]) -> list[Tensor]:
    """Return the norm of each unit (first dimension), and of one-dimensional tensors as a whole; they broadcast."""
    vectors = [tensor for tensor in tensors if tensor.ndim <= 1]
    of_vectors = iter(vector_norms(vectors))
    return [
        next(of_vectors)
        if tensor.ndim <= 1
        else torch.linalg.vector_norm(tensor, dim=tuple(range(1, tensor.ndim)), keepdim=True)
        for tensor in tensors
    ]


def make_average(config: EmaConfig, model: nn.Module) -> ModelEmaV3 | None:
    """Make the average, beginning with a copy of `model`; None for a decay of 0."""
    if config.decay == 0:
        return None
    warmup = {"use_warmup": config.warmup_power > 0, "warmup_power": config.warmup_power or 1.0}
    return Average(model, decay=config.decay, **warmup).requires_grad_(False)


class Average(ModelEmaV3):
    """timm's average, updated in two operations on all tensors, without making two state dicts in every step."""

    def apply_update_(self, model: nn.Module, decay: float) -> None:
        """Move all floating-point tensors toward the model's, and copy the others."""
        ours, theirs = ([*network.parameters(), *network.buffers()] for network in (self.module, model))
        pairs = list(zip(ours, theirs, strict=True))
        moved = [pair for pair in pairs if pair[0].is_floating_point()]
        copied = [pair for pair in pairs if not pair[0].is_floating_point()]
        move = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
        move([mine for mine, _ in moved], [other for _, other in moved], None)
        if copied:
            copy_tensors([mine for mine, _ in copied], [other for _, other in copied])
