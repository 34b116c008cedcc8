"""Lightning's Trainer with this package's defaults."""

from __future__ import annotations

from typing import Any

import lightning as L
from lightning.fabric.plugins import CheckpointIO

from shvit_pl.fit.checkpoint_io import AtomicCheckpointIO


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
        log_every_n_steps: int = 10,
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
            enable_model_summary=enable_model_summary,
            limit_train_batches=limit_train_batches,
            limit_val_batches=limit_val_batches,
            limit_test_batches=limit_test_batches,
            limit_predict_batches=limit_predict_batches,
            plugins=plugins,
            **kwargs,
        )
