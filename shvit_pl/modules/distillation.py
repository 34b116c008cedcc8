"""Image classification taught by labels and by a teacher."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from shvit_pl.data import HFImageDataModule
from shvit_pl.data.loaders import Batch
from shvit_pl.designs.config import DesignConfig
from shvit_pl.errors import UserError
from shvit_pl.modules.classification import ClassificationModule
from shvit_pl.randomness import seeded
from shvit_pl.teachers.cache.answers import dense
from shvit_pl.teachers.cache.folder import TeacherCache
from shvit_pl.teachers.cache.manifest import Manifest
from shvit_pl.teachers.cache.plan import plan
from shvit_pl.teachers.check import TeacherCheck, check_teacher
from shvit_pl.teachers.config import DistillConfig
from shvit_pl.teachers.teacher import Teacher, identity_of, open_teacher

_BESIDE = "beside."


class DistillationModule(ClassificationModule):
    """A `ClassificationModule` that learns (1 - alpha) from the labels and alpha from a teacher.

    With two classifiers the first learns from the labels and the second from the teacher, and their mean is evaluated;
    with one, it learns from both. The teacher sees the images as the student does, mixed and erased. It is no part of
    the module: neither optimiser nor average nor checkpoint hold it.

    Logged beside what a `ClassificationModule` logs: `train/loss_task`, `train/loss_distill`, and `train/agreement`,
    the share of the batch where student and teacher have the same top class.

    Args:
        distill: The teacher, and how to learn from it.
        design: Which SHViT.
        settings: As for `ClassificationModule`.

    Raises:
        UserError: for a design that contradicts `distill.heads`.
    """

    teacher: Teacher | None = None
    cache: TeacherCache | None = None
    teacher_check: TeacherCheck | None = None

    def __init__(
        self,
        distill: DistillConfig,
        design: DesignConfig = DesignConfig(),  # noqa: B008 (frozen)
        **settings: Any,
    ) -> None:
        distill = DistillConfig(**distill) if isinstance(distill, dict) else distill
        design = DesignConfig(**design) if isinstance(design, dict) else design
        if distill.objective == "feature" and settings.get("compile"):
            raise UserError(
                "model.compile true: with the objective feature the student is asked for its features, which is not "
                "compiled. Leave it out, or set --model.distill.objective soft."
            )
        super().__init__(design=_with_heads(design, distill), **settings)
        self.hparams["distill"] = asdict(distill)
        self.distill_config = distill
        self.objective = make_objective(distill)

    def use_data(self, data: HFImageDataModule, stage: str) -> None:
        """As in `ClassificationModule`; to fit, open the teacher too."""
        super().use_data(data, stage)
        config = self.distill_config
        if stage != "fit" or self.teacher is not None or self.cache is not None:
            return
        if config.cache is None:
            self.open_teacher(data)
            return
        self.cache = TeacherCache(config.cache, self.planned_cache(data))
        self.teacher_note = f"{config.teacher}, answers from {config.cache}; {self.cache.manifest.check}"
        data.train_on(self.cache)

    def open_teacher(self, data: HFImageDataModule) -> None:
        """Open the teacher; raises `UserError` for one that can't be had, or does not fit to the data."""
        assert self.class_names is not None
        with seeded():  # whatever a teacher's network draws, the student begins as without one
            self.teacher = open_teacher(self.distill_config, self.class_names, data.mean, data.std)

    def planned_cache(self, data: HFImageDataModule) -> Manifest:
        """What a cache of the teacher's answers has to be."""
        config = self.distill_config
        return plan(config, identity_of(config), asdict(self.mix_config), data)

    def measure_teacher(self, data: HFImageDataModule, device: torch.device) -> None:
        """Bring the teacher to the device, and measure it where that is asked for; raises `UserError` for a bad one."""
        assert self.teacher is not None
        self.teacher.to(device)
        if self.distill_config.check:
            self.teacher_check = check_teacher(self.teacher, data.validation_sample())
        self.teacher_note = f"{self.teacher.note}; {self.teacher_check or 'not checked'}"

    def configure_model(self) -> None:
        """Build the network, and what projects its features to the teacher's where their numbers differ."""
        super().configure_model()
        if self.teacher is None or self.beside is not None or self.distill_config.objective != "feature":
            return
        assert self.model is not None
        if self.model.num_features != self.teacher.feature_dim:
            self.beside = nn.Linear(self.model.num_features, self.teacher.feature_dim)

    def on_fit_start(self) -> None:
        """Bring the teacher to the device, and measure it."""
        super().on_fit_start()
        if self.teacher is None and self.cache is None:
            raise UserError("model.distill: without an HFImageDataModule there is no teacher; give fit its datamodule.")
        if self.teacher is not None:
            self.measure_teacher(self.trainer.datamodule, self.trainer.strategy.root_device)  # type: ignore[attr-defined]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the projection apart: the state dict is the student's."""
        super().on_save_checkpoint(checkpoint)
        state = checkpoint["state_dict"]
        checkpoint["beside"] = {key: state.pop(key) for key in list(state) if key.startswith(_BESIDE)}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Put the projection back."""
        super().on_load_checkpoint(checkpoint)
        if self.beside is not None:
            checkpoint["state_dict"].update(checkpoint.get("beside", {}))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Learn from labels and teacher."""
        images, targets = batch["image"], batch.get("target", batch["label"])
        answer, teaching = self._ask_teacher(images, batch)
        logits, told, taught = self._ask_student(images)
        task, distill = self.criterion(told, targets), self.objective(taught, teaching)
        loss = (1 - self.distill_config.alpha) * task + self.distill_config.alpha * distill
        agreement = (logits.argmax(dim=1) == answer.argmax(dim=1)).float().mean()
        values = {"train/loss": loss, "train/loss_task": task, "train/loss_distill": distill}
        self.log_dict({**values, "train/agreement": agreement, "train/lr": self._lr()}, batch_size=len(images))
        return loss

    def _ask_teacher(self, images: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """The teacher's logits, and what it teaches by: these, or its features."""
        if self.cache is not None:
            logits = dense(batch["teacher"], len(self.class_names or ()))
            return logits, logits
        assert self.teacher is not None
        if self.distill_config.objective == "feature":
            return self.teacher.logits_and_features(images)
        logits = self.teacher.logits(images)
        return logits, logits

    def _ask_student(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The student's logits, those that the labels teach, and what the teacher teaches; all float32."""
        if self.distill_config.objective != "feature":
            answer = self(images)
            told, taught = answer if isinstance(answer, tuple) else (answer, answer)
            return (told + taught).detach() / 2, told.float(), taught.float()
        assert self.model is not None
        maps = self.model.forward_features(self._prepared(images))
        logits: Any = self.model.forward_head(maps)
        features: Any = self.model.forward_head(maps, pre_logits=True)
        taught = features if self.beside is None else self.beside(features)
        told = logits.float()
        return told.detach(), told, taught.float()


def _with_heads(design: DesignConfig, distill: DistillConfig) -> DesignConfig:
    """The design with as many classifiers as the distillation asks for; raises `UserError` where it says otherwise."""
    if distill.dual:
        if design.distilled is False:
            raise UserError(
                "model.design.distilled false: model.distill.heads dual needs the second classifier. Leave it out, or "
                "set --model.distill.heads single."
            )
        return replace(design, distilled=True)
    if design.distilled:
        raise UserError(
            "model.design.distilled true: nothing would teach the second classifier with model.distill.heads single "
            "or the objective feature. Leave it out."
        )
    return design


def make_module(
    distill: DistillConfig = DistillConfig(),  # noqa: B008 (frozen)
    **settings: Any,
) -> ClassificationModule:
    """Make a `DistillationModule` where a teacher is named, else a `ClassificationModule`.

    Args:
        distill: The teacher, and how to learn from it.
        settings: As for `ClassificationModule`.
    """
    if distill.teacher is None:
        return ClassificationModule(**settings)
    return DistillationModule(distill, **settings)


Distance = Callable[[Tensor, Tensor], Tensor]


def hard(student: Tensor, teacher: Tensor) -> Tensor:
    """Cross-entropy of the student's logits `(B, C)` with the teacher's top class."""
    return F.cross_entropy(student, teacher.argmax(dim=1))


def soft(student: Tensor, teacher: Tensor, tau: float = 1.0) -> Tensor:
    """Kullback-Leibler divergence at a temperature, times its square, divided by B times C as in the official code.

    Args:
        student: Logits `(B, C)`.
        teacher: Logits `(B, C)`.
        tau: Temperature.
    """
    return soft_batchmean(student, teacher, tau) / student.shape[1]


def soft_batchmean(student: Tensor, teacher: Tensor, tau: float = 1.0) -> Tensor:
    """As `soft`, but divided by B alone, which is the divergence's definition, and timm's."""
    ours, theirs = (F.log_softmax(logits / tau, dim=1) for logits in (student, teacher))
    return F.kl_div(ours, theirs, reduction="batchmean", log_target=True) * tau**2


def feature(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference of pooled features `(B, F)`, as in timm's `FeatureDistillationTask`."""
    return F.mse_loss(student, teacher)


def make_objective(config: DistillConfig) -> Distance:
    """From the student's answer and the teacher's, both float32, to a scalar."""
    by_name: dict[str, Distance] = {
        "hard": hard,
        "soft": partial(soft, tau=config.tau),
        "soft_batchmean": partial(soft_batchmean, tau=config.tau),
        "feature": feature,
    }
    return by_name[config.objective]
