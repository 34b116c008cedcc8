"""The callbacks of commands that don't train: predictions.csv, and the check against published accuracy."""

import csv
import json
import os
from pathlib import Path
from typing import Any, TextIO

import lightning as L
from lightning.pytorch.utilities import rank_zero_only

from shvit_pl.designs.published import IMAGENET_SIZE, TIMM_TOP1
from shvit_pl.errors import UserError
from shvit_pl.models.network_names import repo_of
from shvit_pl.modules.classification import ClassificationModule

TOP = 5


class PredictionWriter(L.Callback):
    """A CSV of file, label, probability and the five most probable classes (as JSON); it appears when complete.

    Args:
        path: The file.
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
        """Remove the incomplete file."""
        if self._file is not None:
            self._file.close()
        self._partial.unlink(missing_ok=True)


_CLOSE = 0.1  # points, for another decoder or precision


class PublishedAccuracy(L.Callback):
    """A comparison with the top-1 accuracy that is published for the weights.

    Args:
        source: Source of the weights.
    """

    def __init__(self, source: str) -> None:
        self.expected = TIMM_TOP1.get(repo_of(source).split("@")[0])

    @rank_zero_only
    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Print the published accuracy."""
        if self.expected is not None:
            _, images = IMAGENET_SIZE
            print(f"published for these weights: {self.expected:.2f} % top-1 on ImageNet-1k's {images} images")

    @rank_zero_only
    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Compare, where the data is ImageNet's, and all of it."""
        data = trainer.datamodule  # type: ignore[attr-defined]
        is_imagenet = (len(data.class_names), data.rows("validate")) == IMAGENET_SIZE
        if self.expected is None or not is_imagenet or trainer.limit_val_batches != 1.0:
            return
        measured = 100 * float(trainer.callback_metrics["val/acc1"])
        if abs(measured - self.expected) <= _CLOSE:
            print(
                f"measured: {measured:.2f} %, as published ({self.expected:.2f} %): this copy of ImageNet is in order"
            )
        else:
            print(
                f"measured: {measured:.2f} %, and {self.expected:.2f} % is published: look at the images, at the order "
                "of their classes, and at data.image_size and data.crop_pct"
            )
