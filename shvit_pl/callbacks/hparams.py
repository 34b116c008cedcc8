"""TensorBoard's HPARAMS page: the settings of a run beside what came out of it."""

from __future__ import annotations

from typing import Any

import lightning as L
from lightning.pytorch.loggers import TensorBoardLogger

from shvit_pl.callbacks.summary import RunSummary
from shvit_pl.callbacks.throughput import find_callback


class RunHparams(L.Callback):
    """Writes the settings once, at the end, with the best epoch's metrics as `best/val/acc1` and so on.

    Args:
        settings: Flat settings.
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings = settings

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write."""
        summary = find_callback(trainer, RunSummary)
        metrics = {f"best/{name}": value for name, value in summary.best.items()} if summary else {}
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.log_hyperparams(self.settings, metrics)
