"""Image classification with a SHViT."""

from __future__ import annotations

from dataclasses import asdict
from math import isfinite
from typing import Any

import lightning as L
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.nn import functional as F
from torchmetrics import MeanMetric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy

from shvit_pl.data import HFImageDataModule
from shvit_pl.designs.config import DesignConfig
from shvit_pl.designs.design import Design
from shvit_pl.errors import UserError
from shvit_pl.models import SHViT, create_model, load_weights
from shvit_pl.optim import OptimConfig, Schedule, make_optimizer, make_schedule

Batch = dict[str, Any]
FRESH = "fresh weights"


class ClassificationModule(L.LightningModule):
    """A SHViT, its loss, its metrics and its optimiser.

    The network is built once the classes are known: from `class_names`, or from the data module at the start of a run.
    Logged: `train/loss`, `train/lr`, and `loss`, `acc1`, `acc5` (fractions, not percent) under `val/` and `test/`.

    Args:
        design: Which SHViT.
        optim: Optimiser and schedule.
        label_smoothing: Share of the target spread over all classes.
        channels_last: Keep images and weights channels-last in memory, which some devices compute faster.
        init_from: Weights to start from: a Hub repo, a .safetensors, an official .pth, or a checkpoint of ours.
        class_names: Class names, index by index; taken from the data by default.

    Raises:
        UserError: for an impossible design, before anything else happens.
    """

    model: SHViT | None
    metrics: torch.nn.ModuleDict
    schedule: Schedule | None = None

    def __init__(
        self,
        design: DesignConfig = DesignConfig(),  # noqa: B008 (frozen)
        optim: OptimConfig = OptimConfig(),  # noqa: B008 (frozen)
        label_smoothing: float = 0.1,
        channels_last: bool = False,
        init_from: str | None = None,
        class_names: list[str] | None = None,
    ) -> None:
        super().__init__()
        # a checkpoint holds plain dicts, so that it loads with weights_only=True
        self.design_config = DesignConfig(**design) if isinstance(design, dict) else design
        self.optim_config = OptimConfig(**optim) if isinstance(optim, dict) else optim
        if not 0 <= label_smoothing < 1:
            raise UserError(f"model.label_smoothing {label_smoothing}: allowed is from 0 to below 1.")
        self.design = _resolve(self.design_config)
        self.label_smoothing = label_smoothing
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.init_from = init_from
        self.class_names = class_names
        self.init_note = FRESH
        self.model = None
        self.save_hyperparameters(
            {
                "design": asdict(self.design_config),
                "optim": asdict(self.optim_config),
                "label_smoothing": label_smoothing,
                "channels_last": channels_last,
                "init_from": init_from,
                "class_names": class_names,
            },
            logger=False,
        )
        if class_names is not None:
            _check_number_of_classes("model.class_names", class_names)
            self.configure_model()

    def setup(self, stage: str) -> None:
        """Take the classes of the data that this run uses."""
        data = getattr(self.trainer, "datamodule", None)
        if data is not None:
            self.use_data(data)

    def use_data(self, data: HFImageDataModule) -> None:
        """Check that this model fits to opened data, and take its classes; raises `UserError` where it doesn't."""
        self.check_image_size(data.hparams["image_size"])
        if data.class_names is not None:
            self._adopt_classes(data.class_names)

    def check_image_size(self, side: int) -> None:
        """Raise `UserError` when images of this side in pixels are too small for the design."""
        try:
            self.design.check_image_size(side)
        except UserError as error:
            raise UserError(f"data.{error}") from error

    def expect(self, hparams: dict[str, Any]) -> None:
        """Take a checkpoint's classes; raises `UserError` when its `design` is another than this model's."""
        theirs, ours = asdict(DesignConfig(**hparams["design"]).resolve()), asdict(self.design)
        different = [f"{key} is {theirs[key]} there and {ours[key]} here" for key in ours if ours[key] != theirs[key]]
        if different:
            raise UserError(
                f"ckpt_path: the checkpoint is of another model.design ({'; '.join(different)}). Go on with the design "
                "that it was trained with, or start a new run with --model.init_from."
            )
        self._adopt_classes(hparams["class_names"])

    def _adopt_classes(self, class_names: list[str]) -> None:
        _check_number_of_classes("data.path", class_names)
        if self.class_names is None:
            self.class_names = self.hparams["class_names"] = class_names
        elif list(self.class_names) != list(class_names):
            raise UserError(
                f"data.path: the data has {len(class_names)} classes ({', '.join(class_names[:3])}, ...), the model "
                f"{len(self.class_names)} ({', '.join(self.class_names[:3])}, ...), and they must be the same. "
                "Give the data that the model was trained on, or start a new run with --model.init_from."
            )

    def configure_model(self) -> None:
        """Build the network and its metrics, once."""
        if self.model is not None:
            return
        if not self.class_names:
            raise UserError("model.class_names: neither a checkpoint nor the data says which classes there are.")
        classes = len(self.class_names)
        self.model = create_model(num_classes=classes, **asdict(self.design_config))
        self.model.to(memory_format=self.memory_format)
        metrics: dict[str, Any] = {"acc1": MulticlassAccuracy(classes, average="micro"), "loss": MeanMetric()}
        if classes > 5:
            metrics["acc5"] = MulticlassAccuracy(classes, average="micro", top_k=5)
        collection = MetricCollection(metrics, compute_groups=False)
        self.metrics = torch.nn.ModuleDict({stage: collection.clone(prefix=f"{stage}/") for stage in ("val", "test")})

    def on_fit_start(self) -> None:
        """Begin with the weights of `init_from`, unless a run is being resumed."""
        if not self.trainer.ckpt_path:
            self.load_initial_weights()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep where the weights came from."""
        checkpoint["init_note"] = self.init_note

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Remember where the weights came from."""
        self.init_note = checkpoint["init_note"]

    def load_initial_weights(self) -> None:
        """Load the weights of `init_from`, once; raises `UserError` when they are of another design."""
        if self.init_from is None or self.init_note != FRESH:
            return
        self.configure_model()
        assert self.model is not None
        try:
            self.init_note = str(load_weights(self.model, self.init_from))
        except UserError as error:
            raise UserError(f"model.init_from: {error}") from error

    def forward(self, images: Tensor) -> Any:
        """Map normalised images `(B, 3, S, S)` to logits `(B, classes)`; a pair of them for a dual head in training."""
        assert self.model is not None
        return self.model(images.contiguous(memory_format=self.memory_format))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Cross-entropy with label smoothing; each classifier of a dual head learns from the labels."""
        logits = self(batch["image"])
        heads = logits if isinstance(logits, tuple) else (logits,)
        losses = [F.cross_entropy(head, batch["label"], label_smoothing=self.label_smoothing) for head in heads]
        loss = torch.stack(losses).mean()
        self.log_dict({"train/loss": loss, "train/lr": self._lr()}, batch_size=len(batch["image"]))
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Update the metrics under `val/`; returns the logits for callbacks."""
        return self._evaluate(batch, "val")

    def test_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Update the metrics under `test/`; returns the logits for callbacks."""
        return self._evaluate(batch, "test")

    def _evaluate(self, batch: Batch, stage: str) -> Tensor:
        logits, labels = self(batch["image"]), batch["label"]
        metrics = self.metrics[stage]
        assert isinstance(metrics, MetricCollection)
        for name, metric in metrics.items(keep_base=True):
            if name == "loss":
                metric.update(F.cross_entropy(logits, labels, reduction="none"))
            else:
                metric.update(logits, labels)
        self.log_dict(dict(metrics.items()), batch_size=len(labels))
        return logits

    def predict_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        """Class probabilities `(B, classes)` and the images' names."""
        return {"file": batch["file"], "probabilities": self(batch["image"]).float().softmax(dim=-1)}

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """The optimiser over the network, and its schedule, stepped after every step."""
        assert self.model is not None
        self.schedule = make_schedule(self.optim_config, self.global_batch, self._total_steps(), self._epochs())
        optimizer, scheduler = make_optimizer(self.model, self.optim_config, self.schedule)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    @property
    def global_batch(self) -> int:
        """Images per optimiser step, over all devices and accumulated batches."""
        data = getattr(self.trainer, "datamodule", None)
        batch = data.hparams.batch_size if data is not None else 1
        return int(batch * self.trainer.world_size * self.trainer.accumulate_grad_batches)

    def _total_steps(self) -> int:
        steps = self.trainer.estimated_stepping_batches
        if not isfinite(steps):
            raise UserError(
                "trainer.max_epochs -1: the learning rate falls to the run's end; give max_epochs or max_steps."
            )
        return int(steps)

    def _epochs(self) -> float:
        steps_per_epoch = self.trainer.num_training_batches / self.trainer.accumulate_grad_batches
        return self._total_steps() / max(1.0, steps_per_epoch)

    def _lr(self) -> float:
        return float(self.trainer.optimizers[0].param_groups[0]["lr"])


def _check_number_of_classes(flag: str, class_names: list[str]) -> None:
    if len(class_names) < 2:
        raise UserError(f"{flag}: there are {len(class_names)} classes; classification needs two or more.")


def _resolve(config: DesignConfig) -> Design:
    try:
        return config.resolve()
    except UserError as error:
        raise UserError(f"model.design.{error}") from error
