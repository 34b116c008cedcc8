"""Random numbers of a training epoch that depend on seed and epoch alone."""

from __future__ import annotations

import os

import lightning as L
import torch


class EpochSeed(L.Callback):
    """Seeds torch at the start of every epoch, so that a resumed run draws what the uninterrupted one would have.

    Ranks draw different numbers (drop path differs between them).
    """

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Seed by seed, epoch and rank."""
        seed = int(os.environ.get("PL_GLOBAL_SEED", 0))
        torch.manual_seed(hash((seed, trainer.current_epoch, trainer.global_rank)) % 2**63)
