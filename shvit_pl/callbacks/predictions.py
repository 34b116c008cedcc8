"""`predictions.csv`: what `shvit-pl predict` writes."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from typing import Any, TextIO

import lightning as L

from shvit_pl.errors import UserError
from shvit_pl.modules import ClassificationModule

TOP = 5


class PredictionWriter(L.Callback):
    """Writes file, label, probability and the five most probable classes (as JSON); the file appears when whole.

    Args:
        path: Where to write.
    """

    def __init__(self, path: str) -> None:
        self.path = Path(path)
        self._partial = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        self._file: TextIO | None = None
        self.rows = 0

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Begin the file."""
        if trainer.world_size > 1:
            raise UserError(f"trainer.devices {trainer.world_size}: predict writes one file; use --trainer.devices 1.")
        try:
            self._file = self._partial.open("w", newline="")
        except OSError as error:
            raise UserError(f"output {str(self.path)!r}: can't be written ({error.strerror}).") from error
        csv.writer(self._file).writerow(["file", "label", "probability", "top5"])

    def on_predict_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int, *args: Any
    ) -> None:
        """Write one batch's rows."""
        assert self._file is not None
        assert isinstance(pl_module, ClassificationModule)
        names = list(pl_module.class_names or [])
        values, indices = outputs["probabilities"].topk(min(TOP, len(names)))
        writer = csv.writer(self._file)
        for file, probabilities, classes in zip(outputs["file"], values.tolist(), indices.tolist(), strict=True):
            top = {names[index]: round(value, 4) for index, value in zip(classes, probabilities, strict=True)}
            writer.writerow([file, names[classes[0]], f"{probabilities[0]:.4f}", json.dumps(top)])
        self.rows += len(outputs["file"])

    def on_predict_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Give the file its name."""
        assert self._file is not None
        self._file.close()
        self._partial.replace(self.path)
        print(f"{self.rows} predictions in {self.path}")

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Leave nothing half-written."""
        if self._file is not None:
            self._file.close()
        self._partial.unlink(missing_ok=True)
