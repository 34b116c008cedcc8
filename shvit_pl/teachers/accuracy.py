"""A teacher's accuracy on labeled images, which must be better than guessing."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import sqrt
from typing import Any

import torch

from shvit_pl.errors import UserError
from shvit_pl.teachers.teacher import Teacher


@dataclass(frozen=True)
class TeacherCheck:
    """A teacher's top-1 accuracy on so many labeled images, and the share of their most frequent class."""

    source: str
    top1: float
    majority: float
    images: int

    @property
    def threshold(self) -> float:
        """Bound that `top1` must exceed: the majority share m and two standard errors of it, 2 sqrt(m (1 - m) / n)."""
        return self.majority + 2 * sqrt(self.majority * (1 - self.majority) / self.images)

    def __str__(self) -> str:
        return (
            f"top-1 {self.top1:.1%} on {self.images} validation images (always predicting the most frequent class: "
            f"{self.majority:.1%})"
        )


def check_teacher(teacher: Teacher, batches: Iterable[dict[str, Any]]) -> TeacherCheck:
    """Measure a teacher on labeled batches, and refuse one that is no better than guessing.

    The null hypothesis is a teacher that always predicts the most frequent class: n images give it a top-1 of m, that
    class's share of them, with a standard error of sqrt(m (1 - m) / n). A top-1 of at most m + 2 standard errors is
    refused.

    Args:
        teacher: On its device.
        batches: `image` `(B, 3, S, S)`, normalized for the student, and `label` `(B,)`, where -1 is not counted. They
            should hold all classes: the first images of data that are sorted by class prove nothing.

    Raises:
        UserError: as above, and for images that can't show anything: none with a label, or too few of too few classes.
    """
    labels, correct = [], 0
    for batch in batches:
        known = batch["label"] >= 0
        label = batch["label"][known].cpu()
        if len(label):
            predicted = teacher.logits(batch["image"][known].to(teacher.device)).argmax(dim=1)
            correct += int((predicted.cpu() == label).sum())
            labels.append(label)
    if not labels:
        raise _inconclusive("none of the validation images has a label")
    counts = torch.cat(labels).bincount()
    images = int(counts.sum())
    check = TeacherCheck(teacher.source, correct / images, int(counts.max()) / images, images)
    if check.threshold >= 1:
        raise _inconclusive(
            f"of {images} validation images, {check.majority:.1%} are of one class, so that no teacher could be "
            "distinguished from one that always predicts it"
        )
    if check.top1 <= check.threshold:
        raise UserError(
            f"model.distill.teacher {check.source!r}: top-1 {check.top1:.1%} on {images} validation images, not above "
            f"{check.threshold:.1%} (always predicting the most frequent class gives {check.majority:.1%}). Likely "
            "reasons: another order of classes (--model.distill.class_map), untrained weights "
            "(--model.distill.weights), other data (--data.path), another size (--model.distill.teacher_size) or "
            "normalization. To skip this check, set --model.distill.check false."
        )
    return check


def _inconclusive(problem: str) -> UserError:
    return UserError(
        f"model.distill.check: {problem}. Give validation images of all classes, or set --model.distill.check false."
    )
