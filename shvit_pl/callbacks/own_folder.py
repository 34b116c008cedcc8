"""The run folder belongs to the run that writes into it, and does not outlive a run that came to nothing."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import lightning as L

from shvit_pl.runs.claim import claim, release
from shvit_pl.runs.folder import CHECKPOINTS
from shvit_pl.runs.loggers import run_folder


class OwnFolder(L.Callback):
    """Keeps other runs out from the first step to the end; removes the folder of a run that stops in that step."""

    def __init__(self) -> None:
        self._begun = False

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Claim it, once its config.yaml is written."""
        folder = run_folder(trainer)
        if folder is not None:
            claim(folder)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """From here on, the folder holds something."""
        self._begun = True

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Remove it if it holds nothing and is not an interrupted run's, and release it."""
        folder = run_folder(trainer)
        if folder is None:
            return
        if trainer.is_global_zero and not self._begun and not (folder / CHECKPOINTS).exists():
            _remove(folder)
        release(folder)

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Release it."""
        folder = run_folder(trainer)
        if folder is not None:
            release(folder)


def _remove(folder: Path) -> None:
    """Remove a folder, and the one above if no other run is in it."""
    shutil.rmtree(folder, ignore_errors=True)
    with suppress(OSError):
        folder.parent.rmdir()
