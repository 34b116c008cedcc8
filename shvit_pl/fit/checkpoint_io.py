"""Writing checkpoints such that a file is whole or not there, whatever happens."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

from shvit_pl.errors import UserError, first_line
from shvit_pl.files import replacing


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the file and renames: Lightning's own writer goes through the system's temporary folder."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Write `checkpoint`; raises `UserError` when the disk is full, with the old file as it was."""
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
            raise UserError(
                f"checkpoint {path}: can't be written ({_reason(error)}). An earlier one is as it was; make room or "
                "give another --trainer.default_root_dir."
            ) from error


def _reason(error: BaseException) -> str:
    cause = error.__cause__ or error.__context__ or error
    return str(getattr(cause, "strerror", None) or first_line(error))
