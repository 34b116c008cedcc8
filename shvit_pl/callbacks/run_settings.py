"""The settings that determine the course of a run, kept in its checkpoints."""

from __future__ import annotations

from typing import Any

import lightning as L

from shvit_pl.data import HFImageDataModule
from shvit_pl.errors import UserError


class RunSettings(L.Callback):
    """Writes the settings into checkpoints, for a resumed run to be compared with.

    Args:
        settings: Flat settings.
        allow_changes: Whether a resumed run may have another number of processes.
    """

    def __init__(self, settings: dict[str, Any], allow_changes: bool = False) -> None:
        self.settings = settings
        self.allow_changes = allow_changes
        self.processes = 1
        self.readers = 0

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Count the processes, and a stream's readers."""
        self.processes = trainer.world_size
        data: HFImageDataModule = trainer.datamodule  # type: ignore[attr-defined]
        self.readers = data.stream_workers

    def state_dict(self) -> dict[str, Any]:
        """State for checkpoints."""
        return {"settings": self.settings, "processes": self.processes, "readers": self.readers}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Compare what only shows once the processes run."""
        before = state_dict.get("processes", self.processes)
        if before != self.processes and not self.allow_changes:
            raise UserError(
                f"trainer.devices: the interrupted run had {before} processes, this one has {self.processes}; give "
                f"--trainer.devices {before}, or --allow_changes true to go on with another global batch."
            )
        before = state_dict.get("readers", self.readers)
        if before != self.readers and not self.allow_changes:
            raise UserError(
                f"data.num_workers {self.readers}: {before} read the interrupted run's stream, which decides its "
                f"order; give --data.num_workers {before}, or --allow_changes true to go on in another order."
            )
