"""Pruning: a run of a search reports its metric after each epoch, and ends when the pruner stops it."""

from contextlib import suppress
from pathlib import Path

import lightning as L
from optuna.exceptions import StorageInternalError

from shvit_pl.errors import UserError
from shvit_pl.sweep.engine.storage import open_storage
from shvit_pl.sweep.engine.sweep_study import SweepStudy


class PruneTrial(L.Callback):
    """Ends a run that the pruner stops; its run folder is complete, with fewer steps than planned.

    The study, by its name, is in the database `storage` or, for None, in the journal of the sweep `folder`.
    """

    def __init__(self, folder: str, storage: str | None, study: str, trial: int, metric: str, pruner: str) -> None:
        self.folder, self.storage, self.study = folder, storage, study
        self.trial, self.metric, self.pruner = trial, metric, pruner
        self._opened: SweepStudy | None = None

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Report the metric; between two epochs, ask the pruner whether to go on."""
        if trainer.state.fn != "fit" or trainer.sanity_checking:
            return
        prune, epoch = False, trainer.current_epoch + 1
        with suppress(StorageInternalError, UserError):  # a database that is unavailable for a while
            if trainer.is_global_zero:
                if self._opened is None:
                    self._opened = SweepStudy(open_storage(Path(self.folder), self.storage), self.study)
                value = trainer.callback_metrics[self.metric].item()
                prune = self._opened.report(self.trial, value, epoch, self.pruner) and epoch != trainer.max_epochs
        if trainer.strategy.broadcast(prune):
            trainer.should_stop = True
