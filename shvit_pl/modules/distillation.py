"""Image classification taught by labels and by a teacher."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import torch
from torch import Tensor, nn

from shvit_pl.data import HFImageDataModule
from shvit_pl.data.loaders import Batch
from shvit_pl.designs.config import DesignConfig
from shvit_pl.errors import UserError
from shvit_pl.modules.classification import ClassificationModule
from shvit_pl.modules.objectives import make_objective
from shvit_pl.randomness import seeded
from shvit_pl.teachers.check import check_teacher
from shvit_pl.teachers.config import DistillConfig
from shvit_pl.teachers.teacher import Teacher, open_teacher

_PROJECTION = "projection."


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

    def __init__(
        self,
        distill: DistillConfig,
        design: DesignConfig = DesignConfig(),  # noqa: B008 (frozen)
        **settings: Any,
    ) -> None:
        distill = DistillConfig(**distill) if isinstance(distill, dict) else distill
        design = DesignConfig(**design) if isinstance(design, dict) else design
        self.projection: nn.Linear | None
        super().__init__(design=_with_heads(design, distill), **settings)
        self.hparams["distill"] = asdict(distill)
        self.distill_config = distill
        self.objective = make_objective(distill)
        self.projection = None
        self.teacher: Teacher | None = None

    def use_data(self, data: HFImageDataModule, stage: str) -> None:
        """As in `ClassificationModule`; to fit, open the teacher too."""
        super().use_data(data, stage)
        if stage == "fit" and self.teacher is None:
            assert self.class_names is not None
            with seeded():  # whatever a teacher's network draws, the student begins as without one
                self.teacher = open_teacher(self.distill_config, self.class_names, data.mean, data.std)

    def configure_model(self) -> None:
        """Build the network, and what projects its features to the teacher's where their numbers differ."""
        super().configure_model()
        if self.distill_config.objective != "feature" or self.projection is not None or self.teacher is None:
            return
        assert self.model is not None
        if self.model.num_features != self.teacher.feature_dim:
            self.projection = nn.Linear(self.model.num_features, self.teacher.feature_dim)

    def on_fit_start(self) -> None:
        """Bring the teacher to the device, and measure it."""
        super().on_fit_start()
        assert self.teacher is not None
        self.teacher.to(self.trainer.strategy.root_device)
        self.teacher_note = self.teacher.note
        if self.distill_config.check:
            data: HFImageDataModule = self.trainer.datamodule  # type: ignore[attr-defined]
            self.teacher_note = f"{self.teacher_note}; {check_teacher(self.teacher, data.validation_sample())}"

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Mix the images, and learn from labels and teacher."""
        images, targets = self._mixed(batch)
        taught, told, answer, logits = self._both(images)
        task = self.criterion(told.float(), targets)
        distill = self.objective(taught, answer)
        loss = (1 - self.distill_config.alpha) * task + self.distill_config.alpha * distill
        values = {"train/loss": loss, "train/loss_task": task, "train/loss_distill": distill, "train/lr": self._lr()}
        self.log_dict(values, batch_size=len(images))
        return loss


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
