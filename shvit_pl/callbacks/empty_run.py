"""No run folder for a run that did not get beyond its first step."""

from __future__ import annotations

import shutil
from contextlib import suppress
from typing import Any

import lightning as L

from shvit_pl.runs.folder import CHECKPOINTS
from shvit_pl.runs.loggers import run_folder


class EmptyRun(L.Callback):
    """Removes the run folder when a run is refused or stops in its first step or before: it would hold nothing."""

    def __init__(self) -> None:
        self._begun = False

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """From here on, the folder holds something."""
        self._begun = True

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Remove the folder, unless it is an interrupted run's, and the one above if no other run is in it."""
        folder = run_folder(trainer)
        if folder is None or self._begun or not trainer.is_global_zero or (folder / CHECKPOINTS).exists():
            return
        shutil.rmtree(folder, ignore_errors=True)
        with suppress(OSError):
            folder.parent.rmdir()
