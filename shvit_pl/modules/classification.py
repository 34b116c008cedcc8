"""Image classification with a SHViT, and its metrics."""

from collections.abc import Sequence
from typing import Any

import torch
from timm.data import Mixup
from timm.loss import LabelSmoothingCrossEntropy, SoftTargetCrossEntropy
from torch import Tensor, nn
from torchmetrics import MeanMetric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy

from shvit_pl.data import datamodule, decoding, transforms
from shvit_pl.designs.cost import Cost, cost
from shvit_pl.errors import UserError
from shvit_pl.models import SHViT, build_network, load_weights, weights
from shvit_pl.modules import base, batches, class_metrics
from shvit_pl.modules.class_weights import balance, class_weights
from shvit_pl.modules.config import ClassificationConfig, MixConfig
from shvit_pl.modules.users_metrics import make_users_metrics
from shvit_pl.runs.folder import EMA

_TOP_5_ABOVE = 5  # classes; with so few, acc5 would always be 1
_MOST_CLASSES = 100  # of which each is in summary.json


class ClassificationModule(base.TrainedModule):
    """A SHViT, its loss, its metrics and its optimizer; made of a `ClassificationConfig` or of its fields.

    Logged: `train/loss` of a batch, `train/loss_epoch` (the epoch's mean), `train/lr`, and
    `loss`, `acc1`, `acc5` (fractions, not percent) under `val/` and `test/`, and with `_ema` behind their names for the
    averaged weights.
    """

    task = "classification"
    settings_type = ClassificationConfig
    least_classes = 2
    headline = "val/acc1"
    config: ClassificationConfig
    model: SHViT | None
    metrics: nn.ModuleDict
    users_metrics: nn.ModuleDict
    by_class: nn.ModuleDict
    """Metrics by class and confidence of the weights as they are (`raw`) and of the average (`_ema`)."""
    mixup: Mixup | None = None
    temperature = 1.0
    """Divides the logits of predictions."""
    label_weights: Tensor | None
    """Weights `(classes,)` of the classes in the loss; None where all count alike."""
    _largest_batch = 0  # images of an evaluated batch

    def __init__(self, config: ClassificationConfig | None = None, **settings: Any) -> None:
        super().__init__(config, **settings)
        self.register_buffer("label_weights", None, persistent=False)
        if self.class_names is not None and not isinstance(self.config.class_weights, str):
            self.weigh_classes(None)

    def use_data(self, data: datamodule.HFImageDataModule, stage: str) -> None:
        """Check that this model fits to data after its `setup`, and take the classes; raises `UserError` else."""
        self.config.check_image_size(data.config.side)
        self.config.mix.check_batch_size(data.config.batch_size)
        super().use_data(data, stage)
        if stage == "fit":
            self.config.check_sampling(data.config)
            self.weigh_classes(data.drawn_per_class())
            data.mixup, data.mixing = self.make_mixup(), self.config.mix.description

    def use_own_data(self, data: Any, stage: str) -> None:
        """Take the classes that a user's own data module names; raises `UserError` for weights by their images."""
        super().use_own_data(data, stage)
        if stage == "fit" and self.class_names is not None:
            self.weigh_classes(None)

    def weigh_classes(self, counts: Sequence[int] | None) -> None:
        """Weigh the classes in the loss, by the training images of each; raises `UserError` where that can't be."""
        asked = self.config.class_weights
        if asked is not None:
            self.label_weights = class_weights(asked, self.class_names or [], counts)

    def build(self, classes: int) -> SHViT:
        """Make the network for so many classes, its loss and its metrics."""
        network = build_network(self.design, num_classes=classes)
        network.set_grad_checkpointing(self.config.grad_checkpointing)
        smoothing = self.config.label_smoothing
        self.mixup = self.make_mixup()
        self.criterion = SoftTargetCrossEntropy() if self.mixup else LabelSmoothingCrossEntropy(smoothing)
        averaged = self.config.ema.decay > 0
        self.metrics = make_metrics(classes, averaged)
        users = MetricCollection(dict(make_users_metrics(self.config.metrics, classes)), compute_groups=False)
        self.users_metrics = by_weights(users, averaged)
        self.by_class = nn.ModuleDict(
            {name: class_metrics.ClassMetrics(classes) for name in (["raw", EMA] if averaged else ["raw"])}
        )
        return network

    def load(self, source: str) -> weights.LoadReport:
        """Load weights into the network; raises `UserError` when they are of another design."""
        assert self.model is not None
        return load_weights(self.model, source, averaged=self.config.use_ema)

    def counted(self, batch: transforms.Batch) -> Tensor:
        """Return the number of images of an evaluated batch that count."""
        return (batch["label"] != decoding.IGNORED).sum()

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
            **balance(facts["dataset"]["images_per_class"], self.config.class_weights, facts["dataset"]["sampler"]),
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
        return make_mixup(self.config.mix, len(self.class_names or ()), self.config.label_smoothing)

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> transforms.Batch:
        """Check a batch of a user's own loaders while its labels are on the CPU."""
        if self.trainer.predicting:
            return batches.named_batch(batch)
        return batches.labeled_batch(batch, self._classes, soft=self.trainer.training)

    @property
    def _classes(self) -> int:
        return len(self.class_names or ())

    def training_batch(self, batch: Any) -> transforms.Batch:
        """Return a batch with `target`; images of a user's own loaders are mixed, our data module's already are."""
        if isinstance(batch, dict) and "image" in batch and "target" in batch:
            return batch
        batch = batches.labeled_batch(batch, self._classes, soft=True)
        images, labels = batch["image"], batch["label"]
        if len(images) == 1 and not self.freezes_bn:
            raise UserError("batch: it has one image, and BatchNorm needs 2 or more. Give DataLoader drop_last=True.")
        if self.mixup is None or labels.ndim == 2:
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
        if self.label_weights is not None:
            return self._weighted_loss(logits, targets)
        criterion = SoftTargetCrossEntropy() if targets.ndim == 2 else self.criterion
        loss: Tensor = criterion(logits, targets)
        return loss

    def _weighted_loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the mean over the batch, where each class's share of a target counts as often as its weight says."""
        smoothing = self.config.label_smoothing if targets.ndim == 1 else 0.0  # soft targets have theirs
        if targets.ndim == 1:  # torch would smooth classes in another way than soft targets
            targets = nn.functional.one_hot(targets, self._classes).to(logits.dtype)
        return nn.functional.cross_entropy(logits, targets, self.label_weights, label_smoothing=smoothing)

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
        names += [f"val/{name}" for name in class_metrics.metric_names(self._classes)]
        names += [f"val/{name}" for name in make_users_metrics(self.config.metrics, self._classes)]
        return names + ([f"{name}{EMA}" for name in names] if self.config.ema.decay > 0 else [])

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> dict[str, Tensor]:
        """Update the metrics under `val/`; returns `logits` for callbacks, and `logits_ema` of the averaged weights."""
        return self._evaluate(batches.labeled_batch(batch, self._classes), "val")

    def test_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> dict[str, Tensor]:
        """Update the metrics under `test/`; returns the same as a validation."""
        return self._evaluate(batches.labeled_batch(batch, self._classes), "test")

    def reset_metrics(self) -> None:
        """Begin all metrics anew."""
        for metrics in self.metrics.values():
            metrics.reset()  # type: ignore[operator]
        for metrics in (*self.by_class.values(), *self.users_metrics.values()):
            metrics.reset()  # type: ignore[operator]

    def _evaluate(self, batch: transforms.Batch, stage: str) -> dict[str, Tensor]:
        logits = {"logits": self(batch["image"])}
        self._measure(stage, logits["logits"], batch["label"])
        if self.ema is not None:
            logits[f"logits{EMA}"] = self._logits(self.ema, batch["image"])
            self._measure(f"{stage}{EMA}", logits[f"logits{EMA}"], batch["label"])
        return logits

    def _measure(self, name: str, logits: Tensor, labels: Tensor) -> None:
        metrics = self.metrics[name]
        assert isinstance(metrics, MetricCollection)
        metrics.update(logits, labels)
        self.log_dict(dict(metrics.items()), batch_size=len(labels))
        self.by_class[EMA if name.endswith(EMA) else "raw"].update(logits, labels)  # type: ignore[operator]
        users, whole = self.users_metrics[name], labels != decoding.IGNORED
        if len(users):  # type: ignore[arg-type]
            if whole.any():  # not every metric takes no image
                users.update(logits[whole].float(), labels[whole])  # type: ignore[operator]
            self.log_dict(dict(users.items()), batch_size=len(labels))  # type: ignore[operator]

    def on_validation_epoch_end(self) -> None:
        """Log the metrics by class and confidence."""
        stage = "test" if self.trainer.testing else "val"
        for weights_of, metrics in self.by_class.items():
            ending = EMA if weights_of == EMA else ""
            assert isinstance(metrics, class_metrics.ClassMetrics)
            values = {f"{stage}/{name}{ending}": value for name, value in metrics.values().items()}
            self.log_dict(values, sync_dist=True)  # all processes have the same, but Lightning would warn

    on_test_epoch_end = on_validation_epoch_end

    def findings(self) -> dict[str, Any]:
        """Return what the last evaluation has found: the commonest confusions and, up to 100 classes, each class."""
        found, names = dict[str, Any](), list(self.class_names or ())
        for weights_of, metrics in self.by_class.items():
            ending = EMA if weights_of == EMA else ""
            assert isinstance(metrics, class_metrics.ClassMetrics)
            if len(names) <= _MOST_CLASSES:
                found[f"by_class{ending}"] = metrics.table(names)
            found[f"confusions{ending}"] = metrics.confusions(names)
        return found

    def evaluated_logits(self, images: Tensor) -> Tensor:
        """Return logits `(B, classes)` of the weights that predict."""
        logits: Tensor = self._logits(self.evaluated, images).float()
        return logits

    def predict_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> dict[str, Any]:
        """Return class probabilities `(B, classes)` and names of the images, without those that can't be decoded."""
        batch = batches.named_batch(batch)
        probabilities = (self.evaluated_logits(batch["image"]) / self.temperature).softmax(dim=-1)
        names = batch.get("file", [""] * len(probabilities))
        whole = [index for index, broken in enumerate(batch.get("broken", [""] * len(names))) if not broken]
        return {"file": [names[index] for index in whole], "probabilities": probabilities[whole]}


def make_mixup(config: MixConfig, classes: int, label_smoothing: float) -> Mixup | None:
    """Make the mixing of images `(B, 3, S, S)`, in place, and of labels `(B,)` to targets `(B, classes)`."""
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
    )


def make_metrics(classes: int, averaged: bool) -> nn.ModuleDict:
    """Make `loss`, `acc1` and (above five classes) `acc5` for `val` and `test`; with `averaged` for both weights."""
    options: dict[str, Any] = {"average": "micro", "ignore_index": decoding.IGNORED, "validate_args": False}
    metrics: dict[str, Any] = {"acc1": MulticlassAccuracy(classes, **options), "loss": CrossEntropy()}
    if classes > _TOP_5_ABOVE:
        metrics["acc5"] = MulticlassAccuracy(classes, top_k=5, **options)
    return by_weights(MetricCollection(metrics, compute_groups=False), averaged)


def by_weights(collection: MetricCollection, averaged: bool) -> nn.ModuleDict:
    """Return copies of metrics for `val` and `test`; with `averaged` for both weights."""
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
