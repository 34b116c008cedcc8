"""The settings that determine the course of a run, kept in its checkpoints."""

from __future__ import annotations

from typing import Any

import lightning as L

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

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Count the processes."""
        self.processes = trainer.world_size

    def state_dict(self) -> dict[str, Any]:
        """State for checkpoints."""
        return {"settings": self.settings, "processes": self.processes}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Compare what only shows once the processes run."""
        before = state_dict.get("processes", self.processes)
        if before != self.processes and not self.allow_changes:
            raise UserError(
                f"trainer.devices: the interrupted run had {before} processes, this one has {self.processes}; give "
                f"--trainer.devices {before}, or --allow_changes true to go on with another global batch."
            )
