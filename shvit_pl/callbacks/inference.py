"""The callbacks of commands that don't train: predictions.csv, published accuracy, and `--optimize`."""

import csv
import json
import os
import time
from pathlib import Path
from typing import Any, TextIO

import lightning as L
import torch
from lightning.pytorch.utilities import rank_zero_only
from timm.utils import ModelEmaV3

from shvit_pl.callbacks.console import show_notes, show_table
from shvit_pl.deploy.images import in_batches
from shvit_pl.deploy.optimization import NotCompiledError, optimize
from shvit_pl.designs.paper_results import IMAGENET_SIZE, TIMM_TOP1
from shvit_pl.display import counted, say
from shvit_pl.errors import UserError
from shvit_pl.files import replacing
from shvit_pl.models.network_names import find_weights

TOP = 5


class PredictedFile(L.Callback):
    """A file of predictions that appears when complete.

    There is none where no image can be decoded, or with `strict` where one can't.
    """

    lacking = "no label"
    """What an image that can't be decoded has."""

    def __init__(self, path: str, strict: bool = False) -> None:
        self.path, self.strict = Path(path), strict
        self._partial = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        self._file: TextIO | None = None
        self.images = 0
        self.broken: list[str] = []

    @property
    def file(self) -> TextIO:
        """The file that is being written."""
        assert self._file is not None
        return self._file

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Begin the file."""
        if trainer.world_size > 1:
            raise UserError(f"trainer.devices {trainer.world_size}: predict writes one file; use --trainer.devices 1.")
        try:
            self._file = self._partial.open("w", newline="", encoding="utf-8")
        except OSError as error:
            raise UserError(f"output {str(self.path)!r}: can't be written ({error.strerror}).") from error
        self.begin()

    def on_predict_batch_end(
        self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, *args: Any
    ) -> None:
        """Write one batch."""
        self.write(trainer, pl_module, outputs, batch)
        self.images += len(batch["file"])
        self.broken += filter(None, batch["broken"])

    def on_predict_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Give the file its name; raises `UserError` where there is nothing to give, or something is missing."""
        content = self.finish()
        self.file.close()
        count, named = len(self.broken), "; ".join(reason.rstrip(".") for reason in self.broken[:3])
        named += "; ..." * (count > 3)
        if count and (self.strict or count == self.images):
            self._partial.unlink()
            path = trainer.datamodule.config.path  # type: ignore[attr-defined]
            rule = ", and --strict true allows none" if self.strict else ""
            raise UserError(
                f"data.path {path!r}: {count} of {counted(self.images, 'image')} can't be decoded{rule}: {named}. "
                "Repair them, convert them to JPEG or PNG, or remove them."
            )
        self._partial.replace(self.path)
        broken = f"; {counted(count, 'image')} can't be decoded: {self.lacking} ({named})" if count else ""
        show_notes(pl_module.few_steps)
        say(f"{content} in {self.path}{broken}")

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Remove the incomplete file."""
        if self._file is not None:
            self._file.close()
        self._partial.unlink(missing_ok=True)

    def begin(self) -> None:
        """Write what comes before the first batch."""

    def write(self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any) -> None:
        """Write a batch."""
        raise NotImplementedError

    def finish(self) -> str:
        """Write what comes after the last batch; returns the content in words, such as `9 rows`."""
        raise NotImplementedError


class PredictionWriter(PredictedFile):
    """A CSV of file, label, probability and the five most probable classes (as JSON); it appears when complete.

    The label of an image that can't be decoded is empty.
    """

    def begin(self) -> None:
        """Write the names of the columns."""
        csv.writer(self.file).writerow(["file", "label", "probability", "top5"])

    def write(self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any) -> None:
        """Write one batch's rows."""
        names = list(pl_module.class_names or [])
        values, indices = outputs["probabilities"].topk(min(TOP, len(names)))
        predicted = zip(values.tolist(), indices.tolist(), strict=True)
        writer = csv.writer(self.file)
        for file, broken in zip(batch["file"], batch["broken"], strict=True):
            if broken:
                writer.writerow([file, "", "", ""])
                continue
            probabilities, classes = next(predicted)
            top = {names[index]: round(value, 4) for index, value in zip(classes, probabilities, strict=True)}
            writer.writerow([file, names[classes[0]], f"{probabilities[0]:.4f}", json.dumps(top)])

    def finish(self) -> str:
        """Return the number of rows."""
        return counted(self.images, "row")


class MetricsWriter(L.Callback):
    """The metrics of `validate` or `test`, printed, and in a JSON file with the weights and the data."""

    def __init__(self, path: str, command: str, weights: str, plain: bool = False) -> None:
        self.path, self.plain = Path(path), plain
        self.facts = {"command": command, "weights": weights}
        self.count: Any = 0

    def on_validation_batch_end(
        self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, *args: Any, **kwargs: Any
    ) -> None:
        """Count the images that are measured."""
        self.count = self.count + pl_module.counted(batch)

    on_test_batch_end = on_validation_batch_end

    def on_validation_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Print and write, on the first rank."""
        count = int(trainer.strategy.reduce(torch.as_tensor(self.count, device=pl_module.device), reduce_op="sum"))
        if not trainer.is_global_zero:
            return
        data = trainer.datamodule  # type: ignore[attr-defined]
        metrics = {name: value.item() for name, value in trainer.callback_metrics.items()}
        show_table("result", {name: f"{value:.4f}" for name, value in metrics.items()}, self.plain)
        show_notes(pl_module.few_steps)
        used = {
            "path": data.config.path,
            "images": data.chosen.note,
            "count": count,
            "files": data.chosen.files or None,
        }
        content = {**self.facts, "data": used, "metrics": metrics, **pl_module.findings()}
        try:
            with replacing(self.path) as partial:
                partial.write_text(json.dumps(content, indent=2) + "\n")
        except OSError as error:
            raise UserError(f"output {str(self.path)!r}: can't be written ({error.strerror}).") from error
        say(f"written: {self.path}")

    on_test_end = on_validation_end


_CLOSE = 0.001  # for another decoder or precision


def is_limited(trainer: L.Trainer) -> bool:
    """Return whether a validation is of some batches only; 1 is one of them, and 1.0 all."""
    limit = trainer.limit_val_batches
    return isinstance(limit, int) or limit not in (None, 1.0)


class PublishedAccuracy(L.Callback):
    """A comparison with the top-1 accuracy that is published for the weights from `source`."""

    def __init__(self, source: str) -> None:
        self.expected = TIMM_TOP1.get(find_weights(source).repo or "")

    @rank_zero_only
    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Print the published accuracy."""
        if self.expected is not None:
            _, images = IMAGENET_SIZE
            say(f"published for these weights: top-1 {self.expected:.4f} on ImageNet-1k's {images} images")

    @rank_zero_only
    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Compare, where the data is ImageNet's, and all of it."""
        data = trainer.datamodule  # type: ignore[attr-defined]
        is_imagenet = (len(data.class_names), data.rows("validate")) == IMAGENET_SIZE
        if self.expected is None or not is_imagenet or is_limited(trainer):
            return
        measured = float(trainer.callback_metrics["val/acc1"])
        verdict = "check the images, the order of the classes, data.image_size and data.crop_pct"
        if abs(measured - self.expected) <= _CLOSE:
            verdict = "this copy of ImageNet is correct"
        say(f"measured: {measured:.4f}, published: {self.expected:.4f}; {verdict}")


_DTYPES = {"bf16": torch.bfloat16, "16": torch.float16}  # how Lightning's names of precisions begin


class OptimizedNetwork(L.Callback):
    """A callback that replaces the network, and its average, by their optimized forms, for the data's batches."""

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Check devices and precision; raises `UserError` for several devices, and for 64 bits."""
        if trainer.world_size > 1:
            raise UserError("optimize true: works on one device; give --trainer.devices 1, or leave it out.")
        if str(trainer.precision).startswith("64"):
            raise UserError(f"trainer.precision {trainer.precision}: optimize true computes in 32 or 16 bits.")

    def on_validation_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Optimize what will run before the first batch: to predict one network, to measure all."""
        data = trainer.datamodule  # type: ignore[attr-defined]
        stage = "predict" if trainer.predicting else "test" if trainer.testing else "validate"
        sample = torch.cat([part["image"] for part in data.validation_sample(data.config.batch_size, stage)])
        (batch,) = in_batches(sample.to(pl_module.device), [data.config.batch_size])
        dtype = _DTYPES.get(str(trainer.precision).split("-")[0], torch.float32)
        names = ["model"] if pl_module.ema is None else ["model", "ema"]
        if trainer.predicting and pl_module.ema is not None:
            names = ["ema" if pl_module.hparams["use_ema"] else "model"]
        for name in names:
            network = getattr(pl_module, name)
            network = network.module if isinstance(network, ModelEmaV3) else network
            setattr(pl_module, name, _optimized(network, batch, dtype, len(sample)))

    on_test_start = on_predict_start = on_validation_start


def _optimized(network: torch.nn.Module, batch: torch.Tensor, dtype: torch.dtype, images: int) -> torch.nn.Module:
    tell, start = rank_zero_only(say), time.monotonic()
    tell(f"optimizing for batches of {'x'.join(map(str, batch.shape))} ...")
    try:
        fast = optimize(network, batch, dtype, real=batch)
    except NotCompiledError as error:
        raise UserError(f"optimize: the network can't be compiled here ({error}). Leave out --optimize.") from error
    rates = ", ".join(f"{name} {rate:.0f}" for name, rate in fast.rates.items())
    refused = "".join(f"; not {name}: {reason}" for name, reason in fast.refused.items())
    tell(f"logits compared with the plain network's on {counted(images, 'image')} of the data, and on noise")
    tell(f"{fast.recipe}, in {time.monotonic() - start:.0f} s; images/s of each candidate: {rates}{refused}")
    return fast
