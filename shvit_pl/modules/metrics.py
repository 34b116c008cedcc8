"""Metrics of validation and test."""

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import MeanMetric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy

from shvit_pl.data.dataset import IGNORED
from shvit_pl.runs.metrics import EMA

_TOP_5_ABOVE = 5  # classes; with so few, acc5 would always be 1


def validation_metrics(classes: int, averaged: bool) -> list[str]:
    """Return the names of a validation's metrics; with `averaged` also those of the average."""
    names = ["val/acc1", "val/loss"] + (["val/acc5"] if classes > _TOP_5_ABOVE else [])
    return names + ([f"{name}{EMA}" for name in names] if averaged else [])


def make_metrics(classes: int, averaged: bool) -> nn.ModuleDict:
    """Make `loss`, `acc1` and (above five classes) `acc5` for `val` and `test`; with `averaged` for both weights."""
    options: dict[str, Any] = {"average": "micro", "ignore_index": IGNORED, "validate_args": False}
    metrics: dict[str, Any] = {"acc1": MulticlassAccuracy(classes, **options), "loss": MeanMetric()}
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


def update(metrics: MetricCollection, logits: Tensor, labels: Tensor) -> None:
    """Count a batch: logits `(B, classes)`, labels `(B,)`, where `IGNORED` does not count."""
    for name, metric in metrics.items(keep_base=True):
        if name == "loss":
            losses = F.cross_entropy(logits.float(), labels, reduction="none", ignore_index=IGNORED)
            metric.update(losses, weight=labels != IGNORED)
        else:
            metric.update(logits, labels)
