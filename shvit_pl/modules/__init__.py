"""LightningModules around SHViT."""

from shvit_pl.modules.classification import ClassificationModule

__all__ = ["ClassificationModule"]
