"""A validation at the end of a run that ends within an epoch."""

from __future__ import annotations

from typing import Any

import lightning as L


class LastValidation(L.Callback):
    """Lets Lightning validate after the last of `max_steps`, as it does after a whole epoch."""

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Ask for the end where it comes anyway: only then does Lightning validate first."""
        if 0 < trainer.max_steps <= trainer.global_step:
            trainer.should_stop = True
