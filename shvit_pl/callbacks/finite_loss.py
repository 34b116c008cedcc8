"""Stopping at the first loss that is not a finite number, before it reaches a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor

from shvit_pl.errors import UserError

_NONE = 2**62  # later than any step


class FiniteLoss(L.Callback):
    """Notes the first non-finite loss on the device, and reads the note before anything is saved or logged.

    Reading waits for the device, so it happens every `log_every_n_steps` steps, at the epoch's end and before a
    checkpoint; then the run stops, on all ranks, with step, learning rate and the last good checkpoint.
    """

    def __init__(self) -> None:
        self._first: Tensor | None = None

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Note the step of a non-finite loss."""
        loss = outputs["loss"] if isinstance(outputs, dict) else outputs
        if self._first is None:
            self._first = torch.full((), _NONE, dtype=torch.int64, device=loss.device)
        first_one = ~loss.detach().isfinite() & (self._first == _NONE)
        self._first.masked_fill_(first_one, trainer.fit_loop.epoch_loop.total_batch_idx)  # `where` would wait
        if (batch_idx + 1) % trainer.log_every_n_steps == 0:  # type: ignore[attr-defined]
            self._check(trainer)

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Check before validation, which would measure broken weights."""
        self._check(trainer)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Check where nothing else would."""
        self._check(trainer)

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Check before anything is written."""
        self._check(trainer)

    def _check(self, trainer: L.Trainer) -> None:
        if self._first is None:
            return
        batch = int(trainer.strategy.reduce(self._first, reduce_op="min"))
        if batch == _NONE:
            return
        raise UserError(
            f"train/loss: not a finite number at step {batch // trainer.accumulate_grad_batches} (learning rate "
            f"{_lr_at(trainer, batch):.3g}, precision {trainer.precision}). {_last_good(trainer)} Lower "
            "--model.optim.lr, clip gradients (--model.optim.agc 0.02), or compute in bf16-mixed or 32-true."
        )


def _lr_at(trainer: L.Trainer, batch: int) -> float:
    """Learning rate of the first parameter group at a batch, from the schedule."""
    config = trainer.lr_scheduler_configs[0]
    per_epoch = max(1, int(trainer.num_training_batches))
    count = batch // trainer.accumulate_grad_batches if config.interval == "step" else batch // per_epoch
    scheduler: Any = config.scheduler
    return float(scheduler.base_lrs[0] * scheduler.lr_lambdas[0](count))


def _last_good(trainer: L.Trainer) -> str:
    paths = [Path(c._last_checkpoint_saved) for c in trainer.checkpoint_callbacks if isinstance(c, ModelCheckpoint)]
    files = [path for path in paths if path.is_file()]
    if not files:
        return "No checkpoint was written before."
    return f"The last good checkpoint is {max(files, key=lambda path: path.stat().st_mtime)}."
