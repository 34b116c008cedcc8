"""Image classification with a SHViT, and its metrics."""

from contextlib import suppress
from dataclasses import asdict, fields
from typing import Any

import torch
from timm.data import Mixup
from timm.loss import LabelSmoothingCrossEntropy, SoftTargetCrossEntropy
from torch import Tensor, nn
from torchmetrics import MeanMetric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy

from shvit_pl.data import datamodule, decoding, transforms
from shvit_pl.designs.config import DesignConfig
from shvit_pl.errors import UserError, error_prefix, first_few
from shvit_pl.models import SHViT, build_network, load_weights, network_names, weights
from shvit_pl.modules import base, batches, optim_and_ema
from shvit_pl.modules.config import ClassificationConfig, MixConfig
from shvit_pl.runs.folder import EMA

NO_AVERAGE = "model.use_ema true: the checkpoint has no averaged weights (model.ema.decay was 0); leave it out."
_TOP_5_ABOVE = 5  # classes; with so few, acc5 would always be 1


class ClassificationModule(base.TrainedModule):
    """A SHViT, its loss, its metrics and its optimizer.

    The network is built once the classes are known: from `class_names`, or from the data module at the start of a run.
    Logged: `train/loss` of a batch, `train/loss_epoch` (the epoch's mean), `train/lr`, and
    `loss`, `acc1`, `acc5` (fractions, not percent) under `val/` and `test/`, and with `_ema` behind their names for the
    averaged weights.

    Args:
        config: All settings; a checkpoint keeps them as plain values, so that it loads with `weights_only=True`.
        settings: Fields of the config instead, sections also as plain dicts.

    Raises:
        UserError: for an impossible design, before anything else happens.
    """

    model: SHViT | None
    metrics: nn.ModuleDict

    def __init__(self, config: ClassificationConfig | None = None, **settings: Any) -> None:
        if config is not None and not isinstance(config, ClassificationConfig):
            raise UserError(
                f"{type(self).__name__} {config!r}: allowed are a ClassificationConfig, and its fields by name: "
                f"{', '.join(each.name for each in fields(ClassificationConfig))}."
            )
        if config is not None and settings:
            raise UserError(f"{type(self).__name__}: give a config, or {first_few(list(settings))} alone, not both.")
        config = config or ClassificationConfig.from_dict(settings)
        super().__init__(config)
        with error_prefix("model.design."):
            self.design = config.design.resolved
        self.class_names = config.class_names
        self.init_note: str | None = None
        self.teacher_note: str | None = None
        self.mixup: Mixup | None = None
        self.save_hyperparameters(asdict(config), logger=False)
        if self.class_names is not None:
            self.configure_model()

    def setup(self, stage: str) -> None:
        """Take the classes of the data that this run uses."""
        data = getattr(self.trainer, "datamodule", None)
        if isinstance(data, datamodule.HFImageDataModule):
            self.use_data(data, stage)
        else:
            self.use_own_data(data, stage)

    def use_data(self, data: datamodule.HFImageDataModule, stage: str) -> None:
        """Check that this model fits to data after its `setup`, and take the classes; raises `UserError` else."""
        self.config.check_image_size(data.config.side)
        self.config.mix.check_batch_size(data.config.batch_size)
        if data.class_names is not None:
            asked = stage == "fit" and self.config.class_names is not None  # elsewhere, it may be a checkpoint's
            self._adopt_classes(data.class_names, f"data.path {data.config.path!r}", asked=asked)
        if stage == "fit":
            data.mixup = self.make_mixup()

    def use_own_data(self, data: Any, stage: str) -> None:
        """Take the classes that a user's own data module names, if there is one; raises `UserError` for others."""
        classes = batches.classes_of(data)
        if classes is None or (stage == "predict" and self.class_names is not None):
            return
        if isinstance(classes, int):
            has_as_many = self.class_names is not None and len(self.class_names) == classes
            classes = list(self.class_names or ()) if has_as_many else [str(index) for index in range(classes)]
        asked = stage == "fit" and self.config.class_names is not None
        self._adopt_classes(classes, f"the data module {type(data).__name__}", asked=asked)

    def expect(self, hparams: dict[str, Any], resumed: bool = True, averaged: bool = False) -> None:
        """Take the classes in a checkpoint's settings; raises `UserError` when it does not fit to this model.

        It is `resumed`, or else only measured; with `averaged`, its averaged weights are wanted.
        """
        new_run = ", or start a new run with --model.init_from" if resumed else ""
        there, here = asdict(DesignConfig(**hparams["design"]).resolved), asdict(self.design)
        differences = [f"{key} is {there[key]} there and {here[key]} here" for key in here if here[key] != there[key]]
        if differences:
            raise UserError(
                f"ckpt_path: the checkpoint is of another model.design ({'; '.join(differences)}). "
                f"{'Give the same design' if resumed else 'Leave model.design out'}{new_run}."
            )
        theirs, ours = hparams.get("ema", {}).get("decay", 0), self.config.ema.decay
        if averaged and not theirs:
            raise UserError(NO_AVERAGE)
        if bool(theirs) != bool(ours):
            holds = f"averaged weights (its decay was {theirs})" if theirs else "no averaged weights"
            raise UserError(
                f"model.ema.decay {ours}: the checkpoint holds {holds}. "
                f"{'Give the same decay' if resumed else 'Leave model.ema out'}{new_run}."
            )
        if not hparams["class_names"]:
            raise UserError("ckpt_path: the checkpoint has no class names. Give one written by shvit-pl fit.")
        self._adopt_classes(hparams["class_names"], "the checkpoint", asked=True)

    def _adopt_classes(self, class_names: list[str], source: str, asked: bool) -> None:
        """Take the classes of a source; those that were `asked` for by a flag must be the same."""
        if len(class_names) < 2:
            raise UserError(
                f"{source}: classification needs two classes or more, and there is {first_few(class_names) or 'none'}. "
                "If the classes' folders are inside it, give that folder."
            )
        if self.class_names is None:
            self.class_names = self.hparams["class_names"] = class_names
        ours, theirs = (f"{len(names)} classes ({first_few(names)})" for names in (self.class_names, class_names))
        if list(class_names) != list(self.class_names):
            unknown = [name for name in class_names if name not in self.class_names]
            why = f"which lacks {first_few(unknown)}" if unknown else "in another order"
            raise UserError(
                f"model.class_names: it names {ours}, and {source} has {theirs}. Leave it out to take those."
                if asked
                else f"{source}: it has {theirs}, the model {ours}, {why}. Give the data that the model was trained "
                "on, or train another model with shvit-pl fit."
            )

    def configure_model(self) -> None:
        """Build the network, its average and its metrics, once; then apply the device's memory format."""
        if self.model is None:
            if not self.class_names:
                raise UserError(
                    "model.class_names: neither a checkpoint nor the data names the classes. Give the module "
                    "class_names=['cat', 'dog'], or a data module that has class_names, classes or num_classes; to "
                    "predict, load a trained one with load_from_checkpoint."
                )
            classes, smoothing = len(self.class_names), self.config.label_smoothing
            self.model = build_network(self.design, num_classes=classes)
            self.model.set_grad_checkpointing(self.config.grad_checkpointing)
            self.ema = optim_and_ema.make_average(self.config.ema, self.model)
            self.mixup = self.make_mixup()
            self.criterion = SoftTargetCrossEntropy() if self.mixup else LabelSmoothingCrossEntropy(smoothing)
            self.metrics = make_metrics(classes, averaged=self.ema is not None)
            if self.config.compile:
                self.model.compile()  # in place, so that the keys of checkpoints stay clean
            self.train(self.training)
        self.apply_memory_format()

    def make_mixup(self) -> Mixup | None:
        """Make the mixing of training batches."""
        return make_mixup(self.config.mix, len(self.class_names or ()), self.config.label_smoothing)

    def on_fit_start(self) -> None:
        """Begin with the weights of `init_from`, unless a run is being resumed."""
        super().on_fit_start()
        if not self.trainer.ckpt_path:
            self._forget_loss()
            self.load_initial_weights()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save the origin of the first weights."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["init_note"] = self.init_note

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the origin of the first weights."""
        super().on_load_checkpoint(checkpoint)
        self.init_note = checkpoint.get("init_note")

    def check_initial_weights(self) -> None:
        """Raise `UserError` when `init_from` names nothing that can be its weights."""
        if self.config.init_from is not None:
            with error_prefix("model.init_from "):
                network_names.find_weights(self.config.init_from)

    def load_initial_weights(self) -> weights.LoadReport | None:
        """Load the weights of `init_from`, once; raises `UserError` when they are of another design."""
        source = self.config.init_from
        if source is None or self.init_note is not None:
            return None
        self.configure_model()
        assert self.model is not None
        with error_prefix("model.init_from "):
            try:
                report = load_weights(self.model, source, averaged=self.config.use_ema)
            except weights.NoAverageError as error:
                raise UserError(f"{error} Leave out model.use_ema.") from error
        self.init_note = str(report)
        if self.ema is not None:
            self.ema.set(self.model)
        return report

    def take_weights(self) -> None:
        """Load the weights of `init_from` to measure or predict; raises `UserError` without their classifier."""
        report = self.load_initial_weights()
        if report is not None and report.reinitialized:
            raise UserError(
                f"model.init_from {report.source!r}: its classifier is not for these classes "
                f"({'; '.join(report.reinitialized)}). Give --data.path the data that it was trained for, or train "
                "another classifier with shvit-pl fit."
            )
        source = network_names.find_weights(str(self.config.init_from)) if report is not None else None
        if source is not None and source.kind == "checkpoint":
            with suppress(UserError):  # another program's
                notes = weights.read_checkpoint(source.place)["few_steps"]
                self.few_steps = [note for note in notes if self.config.use_ema or EMA not in note]

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
        if len(images) == 1 and not self.config.freeze_bn:
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
        criterion = SoftTargetCrossEntropy() if targets.ndim == 2 else self.criterion
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
        return names + ([f"{name}{EMA}" for name in names] if self.config.ema.decay > 0 else [])

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> dict[str, Tensor]:
        """Update the metrics under `val/`; returns `logits` for callbacks, and `logits_ema` of the averaged weights."""
        return self._evaluate(batches.labeled_batch(batch, self._classes), "val")

    def test_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> dict[str, Tensor]:
        """Update the metrics under `test/`; returns the same as a validation."""
        return self._evaluate(batches.labeled_batch(batch, self._classes), "test")

    def on_validation_start(self) -> None:
        """Begin all metrics anew, with tensors that a later fit can update: Lightning's are of inference mode.

        Raises `UserError` for several loaders, as there is one metric of each name.
        """
        loaders = self.trainer.test_dataloaders if self.trainer.testing else self.trainer.val_dataloaders
        if isinstance(loaders, list | tuple | dict) and len(loaders) > 1:
            raise UserError(
                f"dataloaders: validate and test measure one loader, and there are {len(loaders)}. Give one of a "
                "torch.utils.data.ConcatDataset, or measure them one after the other."
            )
        with torch.inference_mode(False):
            for metrics in self.metrics.values():
                metrics.reset()  # type: ignore[operator]

    on_test_start = on_validation_start

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

    def predict_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> dict[str, Any]:
        """Return class probabilities `(B, classes)` and names of the images, without those that can't be decoded."""
        batch = batches.named_batch(batch)
        averaged = self.config.use_ema
        if averaged and self.ema is None:
            raise UserError(NO_AVERAGE)
        probabilities = self._logits(self.ema if averaged else self.model, batch["image"]).float().softmax(dim=-1)
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
