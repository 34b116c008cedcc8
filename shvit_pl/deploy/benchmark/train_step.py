"""A step of the paper's training, on random images."""

from __future__ import annotations

from typing import Any

import torch
from timm.loss import SoftTargetCrossEntropy
from timm.utils import ModelEmaV3, adaptive_clip_grad
from torch import Tensor, nn

from shvit_pl.deploy.benchmark.cells import COMPILE_MODE, Cell
from shvit_pl.errors import UserError
from shvit_pl.modules.classification import make_mixup
from shvit_pl.modules.config import EmaConfig, MixConfig, OptimConfig
from shvit_pl.modules.optim import clip_adaptively, make_average, make_optimizer, make_schedule

_MIX = MixConfig(mixup=0.8, cutmix=1.0)
_EMA = EmaConfig(decay=0.99996, warmup_power=0.0)
_SMOOTHING, _WEIGHT_DECAY, _CLIP = 0.1, 0.025, 0.02
_STEPS, _EPOCHS = 1000, 300.0  # of the schedule; every step has the learning rate of its first


class TrainStep:
    """A whole training step per call: Mixup or CutMix, forward, backward, adaptive clipping, AdamW, moving average.

    `official` trains as the official `engine.py`: float32 in NCHW, tensor by tensor, the loss read in every step.
    `optimized` trains as `fit`: channels-last, compiled, with optimizer, clipping and average of all tensors at once.
    The other modes train as timm's script with its best flags: channels-last, its clipping and its average.

    Args:
        cell: The way to train; bf16 is autocast.
        model: The network, not fused, on the CPU; it is trained in place.
        images: A batch `(B, 3, S, S)` in float32 and NCHW, on the device.

    Raises:
        UserError: for a batch that can't be mixed.
    """

    def __init__(self, cell: Cell, model: nn.Module, images: Tensor) -> None:
        if len(images) % 2:
            raise UserError("Mixup and CutMix mix images in pairs, so the batch must be even")
        self.is_official = cell.mode == "official"
        self.is_ours = cell.mode == "optimized"
        self.is_bf16 = cell.dtype == "bf16"
        layout = torch.contiguous_format if self.is_official else torch.channels_last
        self.images = images.to(memory_format=layout)
        self.model = model.train().to(images.device).to(memory_format=layout)
        self.network = self._network(cell.mode)
        classes = int(getattr(model, "num_classes"))  # noqa: B009 (a module's attributes are typed as tensors)
        self.labels = torch.randint(classes, (len(images),), device=images.device)
        self.mixup = make_mixup(_MIX, classes, _SMOOTHING)
        self.criterion = SoftTargetCrossEntropy()
        self.optimizer = self._optimizer()
        self.ema = self._average()
        self.scaler = torch.amp.GradScaler(enabled=self.is_official and images.device.type == "cuda")

    def _network(self, mode: str) -> Any:
        if mode in ("official", "eager"):
            return self.model
        return torch.compile(self.model, dynamic=False, mode=COMPILE_MODE.get(mode, mode))

    def _optimizer(self) -> torch.optim.Optimizer:
        options = {"foreach": False} if self.is_official else {}
        config = OptimConfig(name="adamw", options=options)
        schedule = make_schedule(config, len(self.images), _STEPS, _EPOCHS)
        return make_optimizer(self.model, config, schedule, _WEIGHT_DECAY, fused=self.is_ours)[0]

    def _average(self) -> ModelEmaV3:
        if not self.is_ours:
            return ModelEmaV3(self.model, decay=_EMA.decay, foreach=not self.is_official)
        average = make_average(_EMA, self.model)
        assert average is not None
        return average

    def __call__(self) -> Tensor:
        """Make one step; return the loss, a scalar."""
        assert self.mixup is not None
        images, targets = self.mixup(self.images.clone(), self.labels)  # mixed in place
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.is_bf16):
            logits = self.network(images)
        loss: Tensor = self.criterion(logits.float(), targets)
        if self.is_official:
            loss.item()
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        self.scaler.unscale_(self.optimizer)
        clip = clip_adaptively if self.is_ours else adaptive_clip_grad
        clip(self.model.parameters(), clip_factor=_CLIP)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()
        self.ema.update(self.model)
        return loss.detach()
