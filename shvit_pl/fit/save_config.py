"""`config.yaml`: the full resolved configuration of a fit, in its run folder."""

from __future__ import annotations

import lightning as L
from lightning.pytorch.cli import SaveConfigCallback


class SaveFitConfig(SaveConfigCallback):
    """`config.yaml` in the folder of a fit; other commands leave no folder."""

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Nothing yet: data and weights may still be refused."""

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save before the first step."""
        if trainer.loggers:
            super().setup(trainer, pl_module, "fit")
