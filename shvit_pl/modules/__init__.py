"""LightningModules around SHViT."""

from shvit_pl.modules.classification import ClassificationModule
from shvit_pl.modules.distillation import DistillationModule

__all__ = ["ClassificationModule", "DistillationModule"]
