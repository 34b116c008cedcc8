"""Checkpoints, requeueing, seeds and settings: what makes an interrupted run go on as if it had not been."""

import shutil
import signal
from collections.abc import Callable
from contextlib import suppress
from io import BytesIO
from math import inf
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Checkpoint, EarlyStopping, ModelCheckpoint, Timer
from lightning.pytorch.plugins.environments import SLURMEnvironment
from torch.optim.lr_scheduler import LambdaLR

from shvit_pl.callbacks.ending import FitIntoTime
from shvit_pl.callbacks.summary import RunSummary
from shvit_pl.callbacks.throughput import find_callback
from shvit_pl.compat import cluster_environment, root_folder
from shvit_pl.data.base import DataModule
from shvit_pl.errors import UserError, first_line
from shvit_pl.randomness import run_seed, seed_all
from shvit_pl.runs.folder import CHECKPOINTS, SUMMARY, better
from shvit_pl.runs.writing import claim, release, run_folder


class OwnFolder(L.Callback):
    """A claim on the run's folder from the first step to the end; a run that stops in that step removes it."""

    begun = False
    """Whether a step was done."""

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Claim the folder, once its config.yaml is written; raises `UserError` for a state that can't be saved."""
        if trainer.checkpoint_callbacks:
            callbacks: list[L.Callback] = trainer.callbacks  # type: ignore[attr-defined]
            check_states({each.state_key: each.state_dict() for each in callbacks if not isinstance(each, Checkpoint)})
        if (folder := run_folder(trainer)) is not None:
            claim(folder)

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any) -> None:
        """Note that the folder holds something; a run that is extended is not at its end any more."""
        if not self.begun and trainer.is_global_zero and (folder := run_folder(trainer)) is not None:
            (folder / SUMMARY).unlink(missing_ok=True)
        self.begun = True

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Remove it if it holds nothing and is not an interrupted run's, and release it."""
        folder = run_folder(trainer)
        if folder is None:
            return
        if trainer.is_global_zero and not self.begun and not (folder / CHECKPOINTS).exists():
            shutil.rmtree(folder, ignore_errors=True)
            with suppress(OSError):
                folder.parent.rmdir()  # fails if another run is in it
        release(folder)

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Release the folder."""
        if (folder := run_folder(trainer)) is not None:
            release(folder)


def check_states(states: dict[str, Any]) -> None:
    """Raise `UserError`, with the name, for a callback's state that can't be written or would not be read again.

    Checkpoints are read without running code of theirs (`weights_only`). `states` are by Lightning's key.
    """
    for name, state in states.items():
        try:
            torch.save(state, content := BytesIO())
            torch.load(BytesIO(content.getvalue()), weights_only=True)
        except Exception as error:  # whatever an object's own pickling raises
            raise UserError(
                f"trainer.callbacks {name.partition('{')[0]}: what its state_dict returns doesn't go into a checkpoint "
                f"({first_line(error)[:120].rstrip('.')}). Return numbers, texts and tensors, in lists and mappings."
            ) from error


class RunSettings(L.Callback):
    """Flat settings in checkpoints, for a resumed run to be compared with.

    With `allow_changes`, it may have another number of processes.
    """

    def __init__(self, settings: dict[str, Any], allow_changes: bool = False) -> None:
        self.settings, self.allow_changes = settings, allow_changes
        self.processes, self.readers = 1, 0

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Count the processes, and a stream's readers."""
        self.processes = trainer.world_size
        data: DataModule = trainer.datamodule  # type: ignore[attr-defined]
        self.readers = data.stream_workers

    def state_dict(self) -> dict[str, Any]:
        """Return the state for checkpoints."""
        return {"settings": self.settings, "processes": self.processes, "readers": self.readers}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Compare what is known only once the processes run."""
        before = state_dict["processes"]
        if before != self.processes and not self.allow_changes:
            raise UserError(
                f"trainer.devices: the run had {before} processes, this one has {self.processes}; give "
                f"--trainer.devices {before}, or --allow_changes true to resume with another global batch."
            )
        before = state_dict["readers"]
        if before != self.readers and not self.allow_changes:
            raise UserError(
                f"data.num_workers {self.readers}: the run read its stream by {before}, which decide "
                f"its order; give --data.num_workers {before}, or --allow_changes true to go on in another order."
            )


class Extension(L.Callback):
    """An ended run that is trained on: what has ended it begins anew, and an epoch that was cut short is completed."""

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Change the state before callbacks and loops take it."""
        states = checkpoint["callbacks"]
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, EarlyStopping) and callback.state_key in states:
                states[callback.state_key] |= {"wait_count": 0, "stopped_epoch": 0}
            if isinstance(callback, Timer | FitIntoTime):
                states.pop(callback.state_key, None)
        loop = checkpoint["loops"]["fit_loop"]
        if not loop["epoch_loop.batch_progress"]["is_last_batch"]:
            for count in ("current", "total"):
                loop["epoch_progress"][count]["processed"] -= 1


class StepSeed(L.Callback):
    """A seed for every training step, so that a run resumed anywhere draws what the uninterrupted one would have.

    Ranks draw different numbers (Mixup and drop path differ between them).
    """

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Seed by seed, epoch, batch and rank."""
        seed_all(run_seed(), trainer.current_epoch, batch_idx, trainer.global_rank)


class LastValidation(L.Callback):
    """Validation after the last of `max_steps`, as after a whole epoch."""

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any) -> None:
        """Stop where the run ends anyway: only then does Lightning validate first."""
        if 0 < trainer.max_steps <= trainer.global_step:
            trainer.should_stop = True


class Requeue(L.Callback):
    """Lightning's reaction to SLURM's signal (save, requeue), put off until the step is complete.

    Within a step the checkpoint would hold half of it. Processes get the signal at different times, and so agree every
    `log_every_n_steps` steps.
    """

    def __init__(self) -> None:
        self._handler: Callable[..., Any] | None = None
        self._signaled = False

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Take the place of Lightning's handler."""
        environment = cluster_environment(trainer)
        if not (isinstance(environment, SLURMEnvironment) and environment.auto_requeue and environment.requeue_signal):
            return
        handler = signal.getsignal(environment.requeue_signal)
        self._handler = handler if callable(handler) else None
        signal.signal(environment.requeue_signal, self._note)

    def _note(self, signum: int, frame: Any) -> None:
        self._signaled = True

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save and requeue after the signal."""
        if self._handler is None or before_validation(trainer, batch_idx):
            return
        alone = trainer.world_size == 1
        every = trainer.log_every_n_steps  # type: ignore[attr-defined]
        if not alone and (batch_idx + 1) % every:
            return
        if not (self._signaled if alone else trainer.strategy.reduce_boolean_decision(self._signaled, all=False)):
            return
        self._signaled = False
        # Lightning writes into the root, where any later job would take the file
        folder = run_folder(trainer)
        with root_folder(trainer, str(folder / CHECKPOINTS) if folder is not None else trainer.default_root_dir):
            self._handler(signal.SIGUSR1, None)


# ---- checkpoints

_PATHS = ("best_model_path", "kth_best_model_path", "last_model_path")


class RunCheckpoint(ModelCheckpoint):
    """A checkpoint that goes on in a moved run folder, and begins anew in the folder of another run.

    Lightning would forget which file is the best as soon as its folder is named otherwise, and overwrite it. Of epochs
    that are equal in the monitored metric, the one with the lower loss is the best.
    """

    def check_monitor_top_k(self, trainer: L.Trainer, current: torch.Tensor | None = None) -> bool:
        """Return whether this validation is the best so far, which all processes agree on."""
        summary = find_callback(trainer, RunSummary)
        return trainer.strategy.reduce_boolean_decision(
            current is not None and summary is not None and summary.improved
        )

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


def checkpoints(monitor: str | None, every_n_steps: int | None) -> list[L.Callback]:
    """Return the callbacks that write checkpoints.

    `best.ckpt` is the best in `monitor`, and missing if that is None; `last.ckpt` is written after each epoch, and with
    `every_n_steps` within epochs too.
    """
    callbacks: list[L.Callback] = []
    if monitor is not None:
        best: dict[str, Any] = {"filename": "best", "monitor": monitor, "mode": better(monitor)}
        callbacks.append(RunCheckpoint(save_on_train_epoch_end=False, enable_version_counter=False, **best))
    callbacks.append(RunCheckpoint(filename="last", save_on_train_epoch_end=True, enable_version_counter=False))
    if every_n_steps is not None:
        last = WithinEpochs(filename="last", every_n_train_steps=every_n_steps, enable_version_counter=False)
        callbacks.append(last)
    return callbacks


_NO_STEP = 2**62  # later than any step


class FiniteLoss(L.Callback):
    """The first non-finite loss: noted on the device, read before anything is saved or logged.

    Reading waits for the device, so it happens every `log_every_n_steps` steps, at the epoch's end and before a
    checkpoint; then the run stops, on all ranks, with step, learning rate and the last good checkpoint.
    """

    def __init__(self) -> None:
        self._first: torch.Tensor | None = None

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

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any, **kwargs: Any) -> None:
        """Check before broken weights are measured, after an epoch without validation, and before they are written."""
        self._check(trainer)

    on_train_epoch_end = on_save_checkpoint = on_validation_start

    def _check(self, trainer: L.Trainer) -> None:
        if self._first is None:
            return
        batch = int(trainer.strategy.reduce(self._first, reduce_op="min"))
        if batch == _NO_STEP:
            return
        module: Any = trainer.lightning_module
        step, lr = module.counts.step_of(batch), float(trainer.optimizers[0].param_groups[0]["lr"])
        for config in trainer.lr_scheduler_configs:
            if isinstance(config.scheduler, LambdaLR):  # the rate of that step: the optimizer's is a later one
                count = step if config.interval == "step" else batch // module.counts.batches
                lr = float(config.scheduler.base_lrs[0] * config.scheduler.lr_lambdas[0](count))
        callbacks = [each for each in trainer.checkpoint_callbacks if isinstance(each, ModelCheckpoint)]
        paths = [Path(path) for each in callbacks for path in (each.best_model_path, each.last_model_path)]
        files = sorted((path for path in paths if path.is_file()), key=lambda path: path.stat().st_mtime)
        last = f"The last good checkpoint is {files[-1]}." if files else "No checkpoint was written before."
        raise UserError(
            f"train/loss: not a finite number at step {step} (learning rate {lr:.3g}, precision {trainer.precision}). "
            f"{last} Lower --model.optim.lr, clip gradients (--model.optim.agc 0.02), or compute in bf16-mixed or "
            "32-true."
        )
