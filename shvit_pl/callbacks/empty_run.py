"""No run folder for a run that ended before its first step."""

from __future__ import annotations

import shutil
from contextlib import suppress

import lightning as L

from shvit_pl.runs import run_folder


class EmptyRun(L.Callback):
    """Removes the run folder when a new run is refused or stopped before it has trained: it would hold nothing."""

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Remove the folder, and the one above if no other run is in it."""
        folder = run_folder(trainer)
        if folder is None or not trainer.is_global_zero or trainer.global_step > 0 or trainer.ckpt_path:
            return
        shutil.rmtree(folder, ignore_errors=True)
        with suppress(OSError):
            folder.parent.rmdir()
