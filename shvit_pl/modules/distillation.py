"""Image classification with labels and a teacher."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import torch
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor, nn

from shvit_pl.data import datamodule, transforms
from shvit_pl.errors import UserError
from shvit_pl.models import SHViT
from shvit_pl.modules.batches import sample_of
from shvit_pl.modules.classification import ClassificationModule
from shvit_pl.modules.config import ClassificationConfig
from shvit_pl.randomness import seeded
from shvit_pl.teachers.cache import Manifest, TeacherCache, expand_logits, plan
from shvit_pl.teachers.config import DistillConfig
from shvit_pl.teachers.teacher import (
    LabelsCheck,
    Teacher,
    TeacherCheck,
    check_teacher,
    check_teacher_of_sets,
    identity_of,
    logits_and_features,
)

_PROJECTION = "feature_projection"


class DistillationModule(ClassificationModule):
    """A `ClassificationModule` that learns (1 - alpha) from the labels and alpha from a teacher.

    With two classifiers the first learns from the labels and the second from the teacher, and their mean is evaluated;
    with one, it learns from both. The teacher sees the images as the student does, mixed and erased. It is no part of
    the module: neither optimizer nor average nor checkpoint hold it.

    Logged in addition: `train/loss_task`, `train/loss_distill`, and `train/agreement`, the share of the batch where
    student and teacher have the same top class; of many labels, the share of labels on which both say the same.

    Settings are given as to `ClassificationModule`; a design that contradicts `distill.heads` is a `UserError`.
    """

    mean: Sequence[float] = IMAGENET_DEFAULT_MEAN
    """Mean by which a user's own images are normalized, for the teacher; a data module's `mean` comes first."""
    std: Sequence[float] = IMAGENET_DEFAULT_STD
    """Its standard deviation; a data module's `std` comes first."""
    teacher: Teacher | None = None
    cache: TeacherCache | None = None
    teacher_check: TeacherCheck | LabelsCheck | None = None

    def __init__(self, config: ClassificationConfig | None = None, **settings: Any) -> None:
        super().__init__(config, **settings)
        if self.config.distill.teacher is None:
            raise UserError(
                "model.distill.teacher: a DistillationModule needs one, such as distill={'teacher': "
                "'regnety_160.deit_in1k'}; without a teacher, take ClassificationModule."
            )

    def build(self, classes: int) -> SHViT:
        """Make the network and its loss, and the loss of the kind of labels."""
        self.objective = make_objective(self.config.distill, self.many_labels)
        return super().build(classes)

    def use_data(self, data: datamodule.HFImageDataModule, stage: str) -> None:
        """Check and take the data as any classification; to fit, open the teacher too."""
        super().use_data(data, stage)
        config = self.config.distill
        if stage != "fit" or self.teacher is not None or self.cache is not None:
            return
        if config.cache is None:
            self.open_teacher(data)
            return
        self.cache = TeacherCache(config.cache, self.planned_cache(data))
        self.teacher_note = f"{config.teacher}, logits from {config.cache}; {self.cache.manifest.check}"
        data.train_on(self.cache)

    def use_own_data(self, data: Any, stage: str) -> None:
        """Take a user's own data as any classification; to fit, open the teacher too."""
        super().use_own_data(data, stage)
        if stage != "fit" or self.teacher is not None:
            return
        if self.config.distill.cache is not None:
            raise UserError(
                f"model.distill.cache {self.config.distill.cache!r}: its logits are of the augmented views of an "
                "HFImageDataModule. Give that data module, or leave the cache out: the teacher then runs in every step."
            )
        self.configure_model()  # which refuses a module without classes
        self.open_teacher(data)

    def open_teacher(self, data: Any) -> None:
        """Open the teacher; raises `UserError` for one that is not available, or does not fit the data."""
        assert self.class_names is not None
        mean, std = (
            [float(value) for value in getattr(data, name, None) or getattr(self, name)] for name in ("mean", "std")
        )
        with seeded():  # whatever the teacher draws, the student begins as without one
            self.teacher = Teacher(self.config.distill, self.class_names, mean, std)

    def planned_cache(self, data: datamodule.HFImageDataModule) -> Manifest:
        """Return the manifest that a cache of the teacher's logits must have."""
        config = self.config.distill
        return plan(config, identity_of(config), asdict(self.config.mix), data)

    def measure_teacher(self, data: Any, device: torch.device) -> None:
        """Move the teacher to the device, and measure it under `distill.check`; raises `UserError` for a bad one."""
        assert self.teacher is not None
        self.teacher.to(device)
        if self.config.distill.check:
            is_ours = isinstance(data, datamodule.HFImageDataModule)
            sample = data.validation_sample() if is_ours else self._own_sample(data, device)
            check: Any = check_teacher_of_sets if self.many_labels else check_teacher
            self.teacher_check = None if sample is None else check(self.teacher, sample)
        self.teacher_note = f"{self.teacher.note}; {self.teacher_check or 'not checked'}"

    def _own_sample(self, data: Any, device: torch.device) -> Iterator[transforms.Batch] | None:
        """Return batches of a user's own validation images, as the student sees them; None where there are none."""
        self.trainer.fit_loop.epoch_loop.val_loop.setup_data()
        loaders = self.trainer.val_dataloaders
        loader = next(iter(loaders), None) if isinstance(loaders, list | tuple) else loaders
        hooks = data or self

        def prepare(batch: Any) -> Any:
            batch = hooks.on_before_batch_transfer(batch, 0)
            return hooks.on_after_batch_transfer(hooks.transfer_batch_to_device(batch, device, 0), 0)

        return (
            None if loader is None else sample_of(loader, prepare, len(self.class_names or ()), many=self.many_labels)
        )

    def configure_model(self) -> None:
        """Build the network, and a projection to the teacher's features where their numbers differ."""
        super().configure_model()
        if self.teacher is None or self.feature_projection is not None or self.config.distill.objective != "feature":
            return
        assert self.model is not None
        if self.model.num_features != self.teacher.feature_dim:
            self.feature_projection = nn.Linear(self.model.num_features, self.teacher.feature_dim)

    def on_fit_start(self) -> None:
        """Move the teacher to the device, and measure it."""
        super().on_fit_start()
        if self.teacher is not None:
            trainer: Any = self.trainer
            self.measure_teacher(getattr(trainer, "datamodule", None), trainer.strategy.root_device)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the projection apart: the state dict is the student's."""
        super().on_save_checkpoint(checkpoint)
        state = checkpoint["state_dict"]
        checkpoint[_PROJECTION] = {key: state.pop(key) for key in list(state) if key.startswith(f"{_PROJECTION}.")}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Put the projection back."""
        super().on_load_checkpoint(checkpoint)
        if self.feature_projection is not None:
            checkpoint["state_dict"].update(checkpoint.get(_PROJECTION, {}))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Return the loss from labels and teacher."""
        batch = self.training_batch(batch)
        images, targets = batch["image"], batch["target"]
        teacher_logits, teacher_target = self._teacher_forward(images, batch)
        logits, label_logits, student_output = self._student_forward(images)
        task = self.loss_of_labels(label_logits, targets)  # classes (B,), or mixed labels (B, C)
        distill = self.objective(student_output, teacher_target.detach())
        loss = (1 - self.config.distill.alpha) * task + self.config.distill.alpha * distill
        agreement = (logits.argmax(dim=1) == teacher_logits.argmax(dim=1)).float().mean()
        if self.many_labels:
            agreement = ((logits > 0) == (teacher_logits > 0)).float().mean()
        self._add_loss(loss, len(images))
        values = {"train/loss": loss, "train/loss_task": task, "train/loss_distill": distill}
        self.log_dict({**values, "train/agreement": agreement, "train/lr": self._lr()}, batch_size=len(images))
        return loss

    def _teacher_forward(self, images: Tensor, batch: transforms.Batch) -> tuple[Tensor, Tensor]:
        """Return the teacher's logits `(B, C)`, and what the objective compares with: these, or features `(B, F)`."""
        if self.cache is not None:
            logits = expand_logits(batch["teacher"], len(self.class_names or ()))
            return logits, logits
        assert self.teacher is not None
        if self.config.distill.objective == "feature":
            return self.teacher.logits_and_features(images)
        logits = self.teacher.logits(images)
        return logits, logits

    def _student_forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return logits `(B, C)` as evaluated and for the labels, and logits or features `(B, F)` for the teacher."""
        if self.config.distill.objective != "feature":
            outputs = self(images)
            first, second = outputs if isinstance(outputs, tuple) else (outputs, outputs)
            return (first + second).detach() / 2, first.float(), second.float()
        logits, features = logits_and_features(self.model, self._prepared(images))  # (B, C), (B, width)
        if self.feature_projection is not None:
            features = self.feature_projection(features)  # (B, F)
        return logits.detach(), logits.float(), features.float()


Distance = Callable[[Tensor, Tensor], Tensor]


def hard(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the cross-entropy of the student's logits `(B, C)` with the teacher's top class."""
    return nn.functional.cross_entropy(student, teacher.argmax(dim=1))


def soft(student: Tensor, teacher: Tensor, tau: float = 1.0) -> Tensor:
    """Return `soft_batchmean` divided by C too, as in the official code."""
    return soft_batchmean(student, teacher, tau) / student.shape[1]


def soft_batchmean(student: Tensor, teacher: Tensor, tau: float = 1.0) -> Tensor:
    """Return the Kullback-Leibler divergence of logits `(B, C)` at temperature tau, times tau^2 / B, as timm does."""
    ours, theirs = (nn.functional.log_softmax(logits / tau, dim=1) for logits in (student, teacher))
    return nn.functional.kl_div(ours, theirs, reduction="batchmean", log_target=True) * tau**2


def soft_by_class(student: Tensor, teacher: Tensor, tau: float = 1.0) -> Tensor:
    """Return the Kullback-Leibler divergence of each class's yes and no, by logits `(B, C)` at temperature tau.

    It is the mean over images and classes, times tau^2; so for many labels, where classes don't exclude each other.
    """
    shares = (teacher / tau).sigmoid()
    crossed, own = (nn.functional.binary_cross_entropy_with_logits(each / tau, shares) for each in (student, teacher))
    return (crossed - own) * tau**2


def soft_by_class_batchmean(student: Tensor, teacher: Tensor, tau: float = 1.0) -> Tensor:
    """Return `soft_by_class` as the sum over classes."""
    return soft_by_class(student, teacher, tau) * student.shape[1]


def make_objective(config: DistillConfig, many: bool = False) -> Distance:
    """Return the loss, a scalar, of the student's and the teacher's outputs, both float32; for one label or `many`."""
    by_name: dict[str, Distance] = {
        "hard": hard,
        "soft": partial(soft, tau=config.tau),
        "soft_batchmean": partial(soft_batchmean, tau=config.tau),
        "feature": nn.functional.mse_loss,  # takes pooled features (B, F), as in timm's FeatureDistillationTask
    }
    if many:
        by_name["soft"] = partial(soft_by_class, tau=config.tau)
        by_name["soft_batchmean"] = partial(soft_by_class_batchmean, tau=config.tau)
    return by_name[config.objective]
