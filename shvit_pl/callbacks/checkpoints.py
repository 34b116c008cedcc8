"""`best.ckpt` and `last.ckpt`."""

from math import inf
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback, ModelCheckpoint

from shvit_pl.runs.metrics import better

_PATHS = ("best_model_path", "kth_best_model_path", "last_model_path")


class RunCheckpoint(ModelCheckpoint):
    """A checkpoint that goes on in a moved run folder, and begins anew in the folder of another run.

    Lightning would forget which file is the best as soon as its folder is named otherwise, and overwrite it.
    """

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the state of the interrupted run, if its file is here."""
        folder = Path(self.dirpath or "")
        if not (folder / f"{self.filename}.ckpt").is_file():
            return
        here = {key: _moved(state_dict[key], folder) for key in _PATHS}
        kept = {_moved(path, folder): score for path, score in state_dict["best_k_models"].items()}
        super().load_state_dict({**state_dict, **here, "best_k_models": kept, "dirpath": self.dirpath})


def _moved(path: str, folder: Path) -> str:
    return str(folder / Path(path).name) if path else path


class WithinEpochs(RunCheckpoint):
    """A checkpoint every few steps, but not right before a validation: the epoch's own follows.

    Resumed from there, Lightning would take the validation for done, and never make it.
    """

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Write when it is time."""
        if not before_validation(trainer, batch_idx):
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)


def before_validation(trainer: L.Trainer, batch_idx: int) -> bool:
    """Return whether a validation or the epoch's end follows this batch."""
    total = trainer.fit_loop.total_batch_idx + 1
    done = total if trainer.check_val_every_n_epoch is None else batch_idx + 1
    return batch_idx + 1 >= trainer.num_training_batches or done % (trainer.val_check_batch or inf) == 0


def checkpoints(monitor: str | None, every_n_steps: int | None) -> list[Callback]:
    """Return the callbacks that write checkpoints.

    Args:
        monitor: The metric of `best.ckpt`; None, where nothing is measured, for no such file.
        every_n_steps: Write `last.ckpt` within epochs too, and not only after each.
    """
    callbacks: list[Callback] = []
    if monitor is not None:
        mode = better(monitor)
        after_validation: dict[str, Any] = {"monitor": monitor, "mode": mode, "save_on_train_epoch_end": False}
        callbacks.append(RunCheckpoint(filename="best", enable_version_counter=False, **after_validation))
    callbacks.append(RunCheckpoint(filename="last", save_on_train_epoch_end=True, enable_version_counter=False))
    if every_n_steps is not None:
        often = WithinEpochs(filename="last", every_n_train_steps=every_n_steps, enable_version_counter=False)
        callbacks.append(often)
    return callbacks
