"""Image classification with a SHViT, and its metrics."""

from typing import Any

import torch
from timm.data import Mixup
from timm.loss import BinaryCrossEntropy, LabelSmoothingCrossEntropy, SoftTargetCrossEntropy
from torch import Tensor, nn
from torchmetrics import MeanMetric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy

from shvit_pl.data import datamodule, decoding, transforms
from shvit_pl.designs.cost import Cost, cost
from shvit_pl.errors import UserError
from shvit_pl.models import SHViT, build_network, load_weights, weights
from shvit_pl.modules import base, batches, many_labels
from shvit_pl.modules.config import ClassificationConfig, MixConfig
from shvit_pl.runs.folder import EMA

_TOP_5_ABOVE = 5  # classes; with so few, acc5 would always be 1


class ClassificationModule(base.TrainedModule):
    """A SHViT, its loss, its metrics and its optimizer; made of a `ClassificationConfig` or of its fields.

    Logged: `train/loss` of a batch, `train/loss_epoch` (the epoch's mean), `train/lr`, and
    `loss`, `acc1`, `acc5` (fractions, not percent) under `val/` and `test/`, and with `_ema` behind their names for the
    averaged weights. Where an image may have any number of labels, it is `loss`, `map`, `f1` and `f1_micro` instead, by
    thresholds that each validation of a fit finds and checkpoints keep.
    """

    task = "classification"
    settings_type = ClassificationConfig
    least_classes = 2
    config: ClassificationConfig
    model: SHViT | None
    metrics: nn.ModuleDict
    mixup: Mixup | None = None
    _largest_batch = 0  # images of an evaluated batch

    def __init__(self, config: ClassificationConfig | None = None, **settings: Any) -> None:
        self.found: dict[str, many_labels.Found] = {}  # of many labels, what was measured last, by stage
        self.thresholds: dict[str, list[float]] = {}  # of each class, by stage
        super().__init__(config, **settings)

    @property
    def many_labels(self) -> bool:
        """True if an image may have any number of labels."""
        return bool(self.hparams["many_labels"])

    @property
    def headline(self) -> str:  # type: ignore[override]
        """The metric by which runs are compared."""
        return "val/map" if self.many_labels else "val/acc1"

    def use_data(self, data: datamodule.HFImageDataModule, stage: str) -> None:
        """Check that this model fits to data after its `setup`, and take the classes; raises `UserError` else."""
        if stage != "predict":
            self._adopt_kind(data.chosen.many_labels, f"data.path {data.config.path!r}")
        self.config.check_image_size(data.config.side)
        self.config.mix.check_batch_size(data.config.batch_size)
        super().use_data(data, stage)
        if stage == "fit":
            data.mixup, data.mixing = self.make_mixup(), self.config.mix.description

    def _adopt_kind(self, many: bool, source: str) -> None:
        """Take whether images have one label or any number; raises `UserError` where that contradicts the settings."""
        known = self.hparams["many_labels"]
        if known is not None and known != many:
            kinds = {False: "one label for each image", True: "any number of labels for an image"}
            raise UserError(
                f"{source}: it has {kinds[many]}, and the model is for {kinds[known]} (model.many_labels "
                f"{str(known).lower()}). Give data of that kind, or train another model with shvit-pl fit."
            )
        self.config.check_kind(many)
        self.hparams["many_labels"] = many

    def expect(self, hparams: dict[str, Any], resumed: bool = True, averaged: bool = False) -> None:
        """Take classes and kind of labels in a checkpoint's settings; raises `UserError` where it does not fit."""
        self._adopt_kind(bool(hparams.get("many_labels")), "the checkpoint")
        super().expect(hparams, resumed, averaged)

    def build(self, classes: int) -> SHViT:
        """Make the network for so many classes, its loss and its metrics."""
        network = build_network(self.design, num_classes=classes)
        network.set_grad_checkpointing(self.config.grad_checkpointing)
        smoothing = self.config.label_smoothing
        self.mixup = self.make_mixup()
        self.config.check_kind(self.many_labels)
        self.criterion = make_criterion(self.config, self.many_labels, mixed=self.mixup is not None)
        averaged = self.config.ema.decay > 0
        make = many_labels.make_metrics if self.many_labels else make_metrics
        self.metrics = make(classes, averaged)
        return network

    def load(self, source: str) -> weights.LoadReport:
        """Load weights into the network; raises `UserError` when they are of another design."""
        assert self.model is not None
        return load_weights(self.model, source, averaged=self.config.use_ema)

    def counted(self, batch: transforms.Batch) -> Tensor:
        """Return the number of images of an evaluated batch that count."""
        labels = batch["label"]
        return ((labels[:, 0] if labels.ndim == 2 else labels) != decoding.IGNORED).sum()

    def cost(self, data: datamodule.HFImageDataModule) -> Cost:
        """Return parameters, and MACs for an image of the data."""
        return cost(self.design, self._classes, data.config.side)

    def table(self, facts: dict[str, Any]) -> dict[str, str]:
        """Return the rows of a run's table that are about the network, by what is known of the run."""
        design, size = facts["design"], facts["dataset"]["image_size"]
        grids = ", ".join(f"{side}x{side}" for side in self.design.grids(size))
        return {
            "design": f"{design['name']}: patch {design['patch_size']}, {self.design.stages} stages, "
            f"{', '.join(design['mixers'])}; tokens {grids} at {size} px",
            "cost": f"{facts['params'] / 1e6:.2f} M parameters, {facts['macs'] / 1e6:.1f} MMACs",
        }

    def forward(self, images: Tensor) -> Any:
        """Map normalized images `(B, 3, S, S)` to logits `(B, classes)`; a pair of them for a dual head in training."""
        return self._logits(self.model, images)

    def _logits(self, network: nn.Module | None, images: Tensor) -> Any:
        assert network is not None
        images = self._prepared(images)
        if self.training or not self.config.compile:
            return network(images)
        number = len(images)  # a smaller last batch is padded: another size would be compiled for once more
        self._largest_batch = max(self._largest_batch, number)
        return network(nn.functional.pad(images, (0,) * 7 + (self._largest_batch - number,)))[:number]

    def make_mixup(self) -> Mixup | None:
        """Make the mixing of training batches."""
        return make_mixup(self.config.mix, len(self.class_names or ()), self.config.label_smoothing, self.many_labels)

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> transforms.Batch:
        """Check a batch of a user's own loaders while its labels are on the CPU."""
        if self.trainer.predicting:
            return batches.named_batch(batch)
        return self._labeled(batch, soft=self.trainer.training)

    def _labeled(self, batch: Any, soft: bool = False) -> transforms.Batch:
        return batches.labeled_batch(batch, self._classes, soft, self.many_labels)

    @property
    def _classes(self) -> int:
        return len(self.class_names or ())

    def training_batch(self, batch: Any) -> transforms.Batch:
        """Return a batch with `target`; images of a user's own loaders are mixed, our data module's already are."""
        if isinstance(batch, dict) and "image" in batch and "target" in batch:
            return batch
        batch = self._labeled(batch, soft=True)
        images, labels = batch["image"], batch["label"]
        if len(images) == 1 and not self.freezes_bn:
            raise UserError("batch: it has one image, and BatchNorm needs 2 or more. Give DataLoader drop_last=True.")
        if self.mixup is None or (labels.ndim == 2 and not self.many_labels):
            return {**batch, "target": labels}
        if len(images) % 2:
            raise UserError(
                f"batch: Mixup and CutMix need an even number of images, and there are {len(images)}. Give DataLoader "
                "an even batch_size and drop_last=True, or leave model.mix out."
            )
        images, targets = self.mixup(images.clone(), labels)
        return {**batch, "image": images, "target": targets}

    def loss_of_labels(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of logits `(B, classes)` and classes `(B,)` or shares of them `(B, classes)`."""
        is_mixed = targets.ndim == 2 and isinstance(self.criterion, LabelSmoothingCrossEntropy)
        criterion = SoftTargetCrossEntropy() if is_mixed else self.criterion
        loss: Tensor = criterion(logits, targets)
        return loss

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Return the loss; each classifier of a dual head learns from the labels."""
        batch = self.training_batch(batch)
        images, targets = batch["image"], batch["target"]
        logits = self(images)  # (B, classes), or a pair of them
        heads = logits if isinstance(logits, tuple) else (logits,)
        loss = torch.stack([self.loss_of_labels(head.float(), targets) for head in heads]).mean()
        self._add_loss(loss, len(images))
        self.log_dict({"train/loss": loss, "train/lr": self._lr()}, batch_size=len(images))
        return loss

    def validation_metrics(self) -> list[str]:
        """Return the names of what a validation logs."""
        names = ["val/acc1", "val/loss"] + (["val/acc5"] if len(self.class_names or ()) > _TOP_5_ABOVE else [])
        if self.many_labels:
            names = ["val/map", "val/f1", "val/f1_micro", "val/loss"]
        return names + ([f"{name}{EMA}" for name in names] if self.config.ema.decay > 0 else [])

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> dict[str, Tensor]:
        """Update the metrics under `val/`; returns `logits` for callbacks, and `logits_ema` of the averaged weights."""
        return self._evaluate(self._labeled(batch), "val")

    def test_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> dict[str, Tensor]:
        """Update the metrics under `test/`; returns the same as a validation."""
        return self._evaluate(self._labeled(batch), "test")

    def reset_metrics(self) -> None:
        """Begin all metrics anew."""
        for metrics in self.metrics.values():
            metrics.reset()  # type: ignore[operator]

    def _evaluate(self, batch: transforms.Batch, stage: str) -> dict[str, Tensor]:
        logits = {"logits": self(batch["image"])}
        self._measure(stage, logits["logits"], batch["label"])
        if self.ema is not None:
            logits[f"logits{EMA}"] = self._logits(self.ema, batch["image"])
            self._measure(f"{stage}{EMA}", logits[f"logits{EMA}"], batch["label"])
        return logits

    def _measure(self, name: str, logits: Tensor, labels: Tensor) -> None:
        metrics: Any = self.metrics[name]
        metrics.update(logits, labels)
        if isinstance(metrics, MetricCollection):
            self.log_dict(dict(metrics.items()), batch_size=len(labels))

    def on_validation_epoch_end(self) -> None:
        """Log the metrics of many labels, and in a fit take the thresholds that are found."""
        self._log_found("val")

    def on_test_epoch_end(self) -> None:
        """Log the metrics of many labels, by the thresholds of the checkpoint."""
        self._log_found("test")

    def _log_found(self, stage: str) -> None:
        fits = self.trainer.state.fn == "fit"
        for ending in ("", EMA) if self.many_labels else ():
            if f"{stage}{ending}" not in self.metrics:
                continue
            metric: Any = self.metrics[f"{stage}{ending}"]
            kept = None if fits else self.thresholds.get(ending) or [many_labels.NEUTRAL] * self._classes
            self.found[ending] = found = many_labels.measure(*metric.compute(), kept)
            if fits and not self.trainer.sanity_checking:
                self.thresholds[ending] = found.thresholds
            self.log_dict({f"{stage}/{name}{ending}": value for name, value in found.metrics.items()})

    def findings(self) -> dict[str, Any]:
        """Return what the last evaluation of many labels has found by class: average precision, F1, thresholds."""
        names, kinds = self.class_names or [], ("class_ap", "class_f1", "thresholds")
        return {
            f"{kind}{ending}": dict(zip(names, getattr(found, kind), strict=True))
            for ending, found in self.found.items()
            for kind in kinds
        }

    def result_rows(self, findings: dict[str, Any]) -> dict[str, str]:
        """Return a row of a run's last table: the thresholds of many labels."""
        values = findings.get("thresholds", {}).values()
        if not values:
            return {}
        return {"thresholds": f"{min(values):.3f} to {max(values):.3f}, of the best F1; kept in the checkpoint"}

    @property
    def evaluated_thresholds(self) -> list[float]:
        """The thresholds of the weights that are evaluated; 0.5 where none are known."""
        kept = self.thresholds.get(EMA if self.config.use_ema else "")
        return kept or [many_labels.NEUTRAL] * self._classes

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the thresholds of many labels."""
        super().on_save_checkpoint(checkpoint)
        if self.many_labels:
            checkpoint["thresholds"] = self.thresholds

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take the thresholds of many labels."""
        super().on_load_checkpoint(checkpoint)
        self.thresholds = dict(checkpoint.get("thresholds", {}))

    def predict_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> dict[str, Any]:
        """Return class probabilities `(B, classes)` and names of the images, without those that can't be decoded."""
        batch = batches.named_batch(batch)
        logits = self._logits(self.evaluated, batch["image"]).float()
        probabilities = logits.sigmoid() if self.many_labels else logits.softmax(dim=-1)
        names = batch.get("file", [""] * len(probabilities))
        whole = [index for index, broken in enumerate(batch.get("broken", [""] * len(names))) if not broken]
        return {"file": [names[index] for index in whole], "probabilities": probabilities[whole]}


def make_criterion(config: ClassificationConfig, many: bool, mixed: bool) -> nn.Module:
    """Make the loss of logits `(B, classes)` and targets; those that are `mixed` have been smoothed with the mixing."""
    smoothing = config.label_smoothing
    if many:
        return many_labels.make_loss(config.loss, 0.0 if mixed else smoothing)
    if config.loss == "bce":
        return BinaryCrossEntropy(smoothing)  # of labels (B,) it smooths, of targets (B, classes) mixing has done it
    return SoftTargetCrossEntropy() if mixed else LabelSmoothingCrossEntropy(smoothing)


def make_mixup(config: MixConfig, classes: int, label_smoothing: float, many: bool = False) -> Mixup | None:
    """Make the mixing of images `(B, 3, S, S)`, in place, and of labels to targets `(B, classes)`.

    Labels are `(B,)`, or of `many` in an image `(B, classes)`, whose shares are mixed as the images are.
    """
    if not config.active:
        return None
    mixup = Mixup if config.mode == "batch" else transforms.MixupOfEach
    return mixup(
        mixup_alpha=config.mixup,
        cutmix_alpha=config.cutmix,
        prob=config.prob,
        switch_prob=config.switch_prob,
        mode=config.mode,
        label_smoothing=label_smoothing,
        num_classes=classes,
        multi_label=many,
    )


def make_metrics(classes: int, averaged: bool) -> nn.ModuleDict:
    """Make `loss`, `acc1` and (above five classes) `acc5` for `val` and `test`; with `averaged` for both weights."""
    options: dict[str, Any] = {"average": "micro", "ignore_index": decoding.IGNORED, "validate_args": False}
    metrics: dict[str, Any] = {"acc1": MulticlassAccuracy(classes, **options), "loss": CrossEntropy()}
    if classes > _TOP_5_ABOVE:
        metrics["acc5"] = MulticlassAccuracy(classes, top_k=5, **options)
    collection = MetricCollection(metrics, compute_groups=False)
    endings = ("", EMA) if averaged else ("",)
    return nn.ModuleDict(
        {
            f"{stage}{ending}": collection.clone(prefix=f"{stage}/", postfix=ending)
            for stage in ("val", "test")
            for ending in endings
        }
    )


class CrossEntropy(MeanMetric):
    """The mean cross-entropy of logits `(B, classes)` and labels `(B,)`, where `IGNORED` does not count."""

    def update(self, logits: Tensor, labels: Tensor) -> None:  # type: ignore[override]
        """Count a batch."""
        losses = nn.functional.cross_entropy(logits.float(), labels, reduction="none", ignore_index=decoding.IGNORED)
        super().update(losses, weight=labels != decoding.IGNORED)
