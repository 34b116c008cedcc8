"""`best.ckpt` and `last.ckpt`, and the stop at a loss that must not reach them."""

from math import inf
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from torch import Tensor

from shvit_pl.errors import UserError
from shvit_pl.runs.folder import better

_PATHS = ("best_model_path", "kth_best_model_path", "last_model_path")


class RunCheckpoint(ModelCheckpoint):
    """A checkpoint that goes on in a moved run folder, and begins anew in the folder of another run.

    Lightning would forget which file is the best as soon as its folder is named otherwise, and overwrite it.
    """

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the state of the interrupted run, if its file is here."""
        folder = Path(self.dirpath or "")
        if not (folder / f"{self.filename}.ckpt").is_file():
            return
        here = {key: _moved(state_dict[key], folder) for key in _PATHS}
        kept = {_moved(path, folder): score for path, score in state_dict["best_k_models"].items()}
        super().load_state_dict({**state_dict, **here, "best_k_models": kept, "dirpath": self.dirpath})


def _moved(path: str, folder: Path) -> str:
    return str(folder / Path(path).name) if path else path


class WithinEpochs(RunCheckpoint):
    """A checkpoint every few steps, but not right before a validation: the epoch's own follows.

    Resumed from there, Lightning would take the validation for done, and never make it.
    """

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Write when it is time."""
        if not before_validation(trainer, batch_idx):
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)


def before_validation(trainer: L.Trainer, batch_idx: int) -> bool:
    """Return whether a validation or the epoch's end follows this batch."""
    total = trainer.fit_loop.total_batch_idx + 1
    done = total if trainer.check_val_every_n_epoch is None else batch_idx + 1
    return batch_idx + 1 >= trainer.num_training_batches or done % (trainer.val_check_batch or inf) == 0


def checkpoints(monitor: str | None, every_n_steps: int | None) -> list[Callback]:
    """Return the callbacks that write checkpoints.

    Args:
        monitor: The metric of `best.ckpt`; None, where nothing is measured, for no such file.
        every_n_steps: Write `last.ckpt` within epochs too, and not only after each.
    """
    callbacks: list[Callback] = []
    if monitor is not None:
        mode = better(monitor)
        after_validation: dict[str, Any] = {"monitor": monitor, "mode": mode, "save_on_train_epoch_end": False}
        callbacks.append(RunCheckpoint(filename="best", enable_version_counter=False, **after_validation))
    callbacks.append(RunCheckpoint(filename="last", save_on_train_epoch_end=True, enable_version_counter=False))
    if every_n_steps is not None:
        often = WithinEpochs(filename="last", every_n_train_steps=every_n_steps, enable_version_counter=False)
        callbacks.append(often)
    return callbacks


_NO_STEP = 2**62  # later than any step


class FiniteLoss(L.Callback):
    """The first non-finite loss: noted on the device, read before anything is saved or logged.

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
            self._first = torch.full((), _NO_STEP, dtype=torch.int64, device=loss.device)
        first_one = ~loss.detach().isfinite() & (self._first == _NO_STEP)
        self._first.masked_fill_(first_one, trainer.fit_loop.epoch_loop.total_batch_idx)  # `where` would wait
        if (batch_idx + 1) % trainer.log_every_n_steps == 0:  # type: ignore[attr-defined]
            self._check(trainer)

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Check before validation, which would measure broken weights."""
        self._check(trainer)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Check after an epoch without validation."""
        self._check(trainer)

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Check before anything is written."""
        self._check(trainer)

    def _check(self, trainer: L.Trainer) -> None:
        if self._first is None:
            return
        batch = int(trainer.strategy.reduce(self._first, reduce_op="min"))
        if batch == _NO_STEP:
            return
        # the learning rate of that step, from the schedule: the optimizer's is a later one
        config, step = trainer.lr_scheduler_configs[0], batch // trainer.accumulate_grad_batches
        scheduler: Any = config.scheduler
        count = step if config.interval == "step" else batch // max(1, int(trainer.num_training_batches))
        lr = float(scheduler.base_lrs[0] * scheduler.lr_lambdas[0](count))
        callbacks = [each for each in trainer.checkpoint_callbacks if isinstance(each, ModelCheckpoint)]
        paths = [Path(path) for each in callbacks for path in (each.best_model_path, each.last_model_path)]
        files = sorted((path for path in paths if path.is_file()), key=lambda path: path.stat().st_mtime)
        last = f"The last good checkpoint is {files[-1]}." if files else "No checkpoint was written before."
        raise UserError(
            f"train/loss: not a finite number at step {step} (learning rate {lr:.3g}, precision {trainer.precision}). "
            f"{last} Lower --model.optim.lr, clip gradients (--model.optim.agc 0.02), or compute in bf16-mixed or "
            "32-true."
        )
