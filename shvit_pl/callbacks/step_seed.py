"""Random numbers of a training step that depend on seed, epoch and batch alone."""

from __future__ import annotations

from typing import Any

import lightning as L

from shvit_pl.randomness import run_seed, seed_all


class StepSeed(L.Callback):
    """Seeds before every training step, so that a run resumed anywhere draws what the uninterrupted one would have.

    Ranks draw different numbers (Mixup and drop path differ between them).
    """

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Seed by seed, epoch, batch and rank."""
        seed_all(run_seed(), trainer.current_epoch, batch_idx, trainer.global_rank)
