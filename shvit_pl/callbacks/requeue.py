"""SLURM's signal before the time limit, answered between two steps."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

import lightning as L
from lightning.pytorch.plugins.environments import SLURMEnvironment

from shvit_pl.callbacks.checkpoints import before_validation
from shvit_pl.runs.folder import CHECKPOINTS
from shvit_pl.runs.loggers import run_folder


class Requeue(L.Callback):
    """Puts Lightning's answer to the signal (save, requeue) off until the step is whole.

    In the middle of a step the checkpoint would hold half of it. Several processes, which get the signal at different
    moments, agree every `log_every_n_steps` steps.
    """

    def __init__(self) -> None:
        self._answer: Callable[..., Any] | None = None
        self._asked = False

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Take the place of Lightning's handler."""
        environment = trainer._accelerator_connector.cluster_environment
        if not (isinstance(environment, SLURMEnvironment) and environment.auto_requeue and environment.requeue_signal):
            return
        handler = signal.getsignal(environment.requeue_signal)
        self._answer = handler if callable(handler) else None
        signal.signal(environment.requeue_signal, self._note)

    def _note(self, signum: int, frame: Any) -> None:
        self._asked = True

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save and requeue where it was asked for."""
        if self._answer is None or before_validation(trainer, batch_idx):
            return
        alone = trainer.world_size == 1
        every = trainer.log_every_n_steps  # type: ignore[attr-defined]
        if not alone and (batch_idx + 1) % every:
            return
        if self._asked if alone else trainer.strategy.reduce_boolean_decision(self._asked, all=False):
            self._asked = False
            self._save_and_requeue(trainer)

    def _save_and_requeue(self, trainer: L.Trainer) -> None:
        """Let Lightning answer, but write into the run's folder: from the root, any later job would take the file."""
        assert self._answer is not None
        private: Any = trainer
        folder, root = run_folder(trainer), trainer.default_root_dir
        private._default_root_dir = str(folder / CHECKPOINTS) if folder is not None else root
        try:
            self._answer(signal.SIGUSR1, None)
        finally:
            private._default_root_dir = root
