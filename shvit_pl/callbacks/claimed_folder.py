"""The run folder belongs to the run that writes into it."""

from __future__ import annotations

import lightning as L

from shvit_pl.runs.claim import claim, release
from shvit_pl.runs.loggers import run_folder


class ClaimedFolder(L.Callback):
    """Keeps other runs out of the folder from the first step to the end."""

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Claim it, once its config.yaml is written."""
        folder = run_folder(trainer)
        if folder is not None:
            claim(folder)

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Release it."""
        _release(trainer)

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Release it."""
        _release(trainer)


def _release(trainer: L.Trainer) -> None:
    folder = run_folder(trainer)
    if folder is not None:
        release(folder)
