"""Where a run stands."""

from __future__ import annotations

import lightning as L


def epochs_done(trainer: L.Trainer) -> float:
    """Epochs that the run has had: 1.5 in the middle of the second."""
    progress = trainer.fit_loop.epoch_loop.batch_progress.current
    return trainer.current_epoch + min(1.0, progress.ready / max(1, trainer.num_training_batches))


def epoch_of(trainer: L.Trainer, done: float) -> str:
    """` 2/10` after the second of ten epochs, `1.5/10` within it; without `/10` in a run of so many steps."""
    shown = f"{round(done, 2):>3g}"
    return f"{shown}/{trainer.max_epochs}" if (trainer.max_epochs or 0) > 0 else shown
