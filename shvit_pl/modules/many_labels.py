"""Losses and metrics where an image may have any number of labels: average precision, thresholds and F1 by class."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from timm.loss import AsymmetricLossMultiLabel, BinaryCrossEntropy
from torch import Tensor, nn
from torchmetrics import Metric
from torchmetrics.functional.classification import multilabel_average_precision
from torchmetrics.utilities import dim_zero_cat

from shvit_pl.data.decoding import IGNORED
from shvit_pl.runs.folder import EMA

NEUTRAL = 0.5  # threshold of a class of which no validation image told a better one


@dataclass(frozen=True)
class Found:
    """What an evaluation has found, by class; None where no image has the class, and so nothing is measured."""

    class_ap: list[float | None]
    """Average precision."""
    class_f1: list[float | None]
    """F1 at the thresholds."""
    thresholds: list[float]
    """Probabilities from which a class is predicted."""
    images: list[int]
    """Images that have the class."""
    metrics: dict[str, float]
    """`map`, `f1`, `f1_micro` and `loss`."""


class LabelSets(Metric):
    """Logits and labels `(N, classes)` of an evaluation, on all processes; images whose labels are `IGNORED` don't count."""

    full_state_update = False
    logits: list[Tensor]
    labels: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        for name in ("logits", "labels"):
            self.add_state(name, default=[], dist_reduce_fx="cat")

    def update(self, logits: Tensor, labels: Tensor) -> None:
        """Count a batch."""
        counted = labels[:, 0] != IGNORED
        self.logits.append(logits[counted].float())
        self.labels.append(labels[counted])

    def compute(self) -> tuple[Tensor, Tensor]:
        """Return logits and labels of all images."""
        return dim_zero_cat(self.logits), dim_zero_cat(self.labels)


def measure(logits: Tensor, labels: Tensor, thresholds: Sequence[float] | None = None) -> Found:
    """Measure logits against labels `(N, classes)`; without `thresholds`, those of the best F1 are found and taken.

    Classes that no image has count in no mean. `loss` is the binary cross-entropy, the mean over images and classes.
    """
    probabilities, truth = logits.double().sigmoid(), labels > 0.5
    images = truth.sum(0)
    present = images > 0
    found = best_thresholds(probabilities, truth) if thresholds is None else torch.tensor(thresholds, dtype=torch.float64)
    predicted = probabilities >= found.to(probabilities.device)
    hits, counts = (predicted & truth).sum(0), predicted.sum(0) + images  # F1 = 2 TP / (2 TP + FP + FN)
    f1 = 2 * hits / counts.clamp(min=1)
    ap = torch.full_like(f1, torch.nan)
    if present.any():
        scored, number = (probabilities[:, present], truth[:, present].long()), int(present.sum())
        ap[present] = multilabel_average_precision(*scored, number, "none", validate_args=False).to(ap)
    loss = nn.functional.binary_cross_entropy_with_logits(logits, labels)
    metrics = {
        "map": ap[present].mean(),
        "f1": f1[present].mean(),
        "f1_micro": 2 * hits[present].sum() / counts[present].sum().clamp(min=1),
        "loss": loss,
    }
    there = present.tolist()
    return Found(
        [value if has else None for value, has in zip(ap.tolist(), there, strict=True)],
        [value if has else None for value, has in zip(f1.tolist(), there, strict=True)],
        found.tolist(),
        images.tolist(),
        {name: value.item() for name, value in metrics.items()},
    )


def best_thresholds(probabilities: Tensor, truth: Tensor) -> Tensor:
    """Return for each class of `(N, classes)` the threshold of the best F1, the highest of equal ones.

    It is the middle between the lowest probability that is taken and the next one, so that rounding moves no image
    across it; `NEUTRAL` for a class that no image has.
    """
    scores, order = probabilities.sort(dim=0, descending=True, stable=True)
    hits = truth.gather(0, order).cumsum(0)  # (N, classes): of the first 1, 2, ... images
    taken = torch.arange(1, len(scores) + 1, device=scores.device)[:, None]
    following = torch.cat([scores[1:], torch.zeros_like(scores[:1])])
    f1 = 2 * hits / (taken + truth.sum(0))
    f1 = f1.masked_fill(scores == following, -1.0)  # equal probabilities are taken together
    best = f1.argmax(0, keepdim=True)
    middle = (scores.gather(0, best) + following.gather(0, best))[0] / 2
    return torch.where(truth.any(0), middle, NEUTRAL)


def make_metrics(classes: int, averaged: bool) -> nn.ModuleDict:
    """Make the metrics of `val` and `test`; with `averaged` for both weights."""
    endings = ("", EMA) if averaged else ("",)
    return nn.ModuleDict({f"{stage}{ending}": LabelSets() for stage in ("val", "test") for ending in endings})


def make_loss(name: str, smoothing: float) -> nn.Module:
    """Make the loss of logits and targets `(B, classes)` of 0 and 1; smoothing takes each target towards 1/2.

    `bce` is the binary cross-entropy and `asymmetric` the loss of T. Ridnik et al. (Asymmetric Loss For Multi-Label
    Classification, 2021) with timm's gammas and margin; both are means over images and classes.
    """
    if name == "asymmetric":
        return AsymmetricLossMultiLabel(smoothing=smoothing, reduction="mean")
    return BinaryCrossEntropy(smoothing=smoothing, smooth_dense=True)
