"""Lightning's Trainer with this package's defaults; it writes checkpoints and config.yaml."""

import os
from pathlib import Path
from typing import Any

import lightning as L
import torch
from jsonargparse.typing import NonNegativeFloat, PositiveInt
from lightning.fabric.plugins import CheckpointIO
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch.cli import SaveConfigCallback

from shvit_pl.errors import UserError, first_line
from shvit_pl.files import replacing


class Trainer(L.Trainer):
    """Lightning's Trainer; runs are kept in `runs/`, and checkpoints are written atomically.

    The `limit_*_batches` are declared anew because Lightning's own annotation makes the command line read `1` (one
    batch) as `1.0` (all batches).
    """

    def __init__(
        self,
        *args: Any,
        max_epochs: int | None = 10,
        default_root_dir: str = "runs",
        log_every_n_steps: PositiveInt = 10,
        check_val_every_n_epoch: PositiveInt | None = 1,
        accumulate_grad_batches: PositiveInt = 1,
        gradient_clip_val: NonNegativeFloat | None = None,
        enable_model_summary: bool = False,
        limit_train_batches: int | float | None = None,
        limit_val_batches: int | float | None = None,
        limit_test_batches: int | float | None = None,
        limit_predict_batches: int | float | None = None,
        plugins: Any = None,
        **kwargs: Any,
    ) -> None:
        plugins = list(plugins) if isinstance(plugins, list | tuple) else [plugins] if plugins else []
        if not any(isinstance(plugin, CheckpointIO) for plugin in plugins):
            plugins.append(AtomicCheckpointIO())
        super().__init__(
            *args,
            max_epochs=max_epochs,
            default_root_dir=default_root_dir,
            log_every_n_steps=log_every_n_steps,
            check_val_every_n_epoch=check_val_every_n_epoch,
            accumulate_grad_batches=accumulate_grad_batches,
            gradient_clip_val=gradient_clip_val,
            enable_model_summary=enable_model_summary,
            limit_train_batches=limit_train_batches,
            limit_val_batches=limit_val_batches,
            limit_test_batches=limit_test_batches,
            limit_predict_batches=limit_predict_batches,
            plugins=plugins,
            **kwargs,
        )


class AtomicCheckpointIO(TorchCheckpointIO):
    """Atomic writing in the checkpoint's folder; Lightning's goes through the system's temporary folder."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Write atomically; raises `UserError` when the disk is full, with the old file as it was."""
        path = Path(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            for leftover in path.parent.glob(".*.ckpt*"):  # of a run that was killed while it wrote
                leftover.unlink()
            with replacing(path) as partial, partial.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
        except (OSError, RuntimeError) as error:  # torch wraps a full disk in a RuntimeError
            reason = getattr(error.__cause__ or error.__context__ or error, "strerror", None) or first_line(error)
            raise UserError(
                f"checkpoint {path}: can't be written ({reason}). An earlier one is as it was; make room or give "
                "another --trainer.default_root_dir."
            ) from error


class SaveFitConfig(SaveConfigCallback):
    """`config.yaml` in the folder of a fit; other commands leave no folder."""

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Do nothing yet: data and weights may still be refused."""

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save before the first step."""
        if trainer.loggers:
            super().setup(trainer, pl_module, "fit")
