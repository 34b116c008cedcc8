"""Which module a run trains."""

from __future__ import annotations

from typing import Any

from shvit_pl.modules.classification import ClassificationModule
from shvit_pl.modules.distillation import DistillationModule
from shvit_pl.teachers.config import DistillConfig


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
