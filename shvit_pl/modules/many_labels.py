"""Losses and metrics where an image may have any number of labels: average precision, thresholds and F1 by class."""

from collections.abc import Sequence
from typing import Any

import torch
from timm.loss import AsymmetricLossMultiLabel, BinaryCrossEntropy
from torch import Tensor, nn
from torchmetrics import Metric
from torchmetrics.functional.classification import multilabel_average_precision
from torchmetrics.utilities import dim_zero_cat

from shvit_pl.data.decoding import IGNORED

NAMES = ("map", "f1_macro", "f1_micro", "loss")
NEUTRAL = 0.5  # threshold of a class of which no validation image told a better one


class LabelMetrics(nn.Module):
    """Metrics of an evaluation by class; images whose labels are `IGNORED` don't count.

    With t_k the images rightly said to show class k, n_k those that show it and p_k those said to: recall t_k / n_k,
    precision t_k / p_k and F1 2 t_k / (n_k + p_k), by the thresholds; `ap` is the average precision by torchmetrics.
    `map` and `f1_macro` are means over the classes that have images, `f1_micro` is the F1 of their sums, and `loss` the
    binary cross-entropy, the mean over images and classes.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes = classes
        self.sets = _LabelSets()
        self.thresholds: list[float] = []
        """Probabilities from which a class is predicted; none while they are not known."""
        self._rows: dict[str, Tensor] = {}
        self._values: dict[str, float] = {}

    def update(self, logits: Tensor, labels: Tensor) -> None:
        """Count logits and labels `(B, classes)`."""
        self.sets.update(logits, labels)

    def reset(self) -> None:
        """Begin anew; the thresholds stay."""
        self.sets.reset()

    def measure(self, finds: bool) -> None:
        """Measure what was counted, over all processes, by the thresholds; with `finds`, take those of the best F1."""
        logits, labels = self.sets.compute()
        probabilities, truth = logits.double().sigmoid(), labels > 0.5
        if finds:
            self.thresholds = best_thresholds(probabilities, truth).tolist()
        self._rows = by_class(probabilities, truth, self.thresholds or [NEUTRAL] * self.classes)
        present = self._rows["images"] > 0
        right, images, predicted = (self._rows[name][present] for name in ("right", "images", "predicted"))
        self._values = {
            "map": float(self._rows["ap"][present].mean()),
            "f1_macro": float(self._rows["f1"][present].mean()),
            "f1_micro": float(2 * right.sum() / (images + predicted).sum()),
            "loss": float(nn.functional.binary_cross_entropy_with_logits(logits, labels)),
        }

    def values(self) -> dict[str, float]:
        """Return the metrics that were measured by name; not a number without images."""
        return self._values

    def table(self, names: list[str]) -> list[dict[str, Any]]:
        """Return a row for each class: its name, images, threshold and figures, None where there are no images."""
        thresholds = self.thresholds or [NEUTRAL] * self.classes
        return [
            {
                "class": name,
                "images": int(self._rows["images"][index]),
                "threshold": round(thresholds[index], 4),
                **{
                    key: round(float(self._rows[key][index]), 4) if self._rows["images"][index] else None
                    for key in ("ap", "precision", "recall", "f1")
                },
            }
            for index, name in enumerate(names)
        ]


class _LabelSets(Metric):
    """Logits and labels `(N, classes)` of an evaluation, of all processes."""

    full_state_update = False
    logits: list[Tensor]
    labels: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        for name in ("logits", "labels"):
            self.add_state(name, default=[], dist_reduce_fx="cat")

    def update(self, logits: Tensor, labels: Tensor) -> None:
        counted = labels[:, 0] != IGNORED
        self.logits.append(logits[counted].float())
        self.labels.append(labels[counted])

    def compute(self) -> tuple[Tensor, Tensor]:
        return dim_zero_cat(self.logits), dim_zero_cat(self.labels)


def by_class(probabilities: Tensor, truth: Tensor, thresholds: Sequence[float]) -> dict[str, Tensor]:
    """Return `images`, `predicted`, `right`, `precision`, `recall`, `f1` and `ap` of each class of `(N, classes)`.

    All are float64 on the CPU; those of a class without images mean nothing.
    """
    predicted = probabilities >= torch.tensor(thresholds, dtype=torch.float64, device=probabilities.device)
    right, images, counts = (each.sum(0).double().cpu() for each in (predicted & truth, truth, predicted))
    ap, present = torch.full_like(right, torch.nan), images > 0
    if number := int(present.sum()):
        shown = present.to(truth.device)
        scored = probabilities[:, shown], truth[:, shown].long()
        ap[present] = multilabel_average_precision(*scored, number, "none", validate_args=False).double().cpu()
    return {
        "images": images,
        "predicted": counts,
        "right": right,
        "precision": right / counts.clamp(min=1),
        "recall": right / images.clamp(min=1),
        "f1": 2 * right / (images + counts).clamp(min=1),
        "ap": ap,
    }


def best_thresholds(probabilities: Tensor, truth: Tensor) -> Tensor:
    """Return for each class of `(N, classes)` the threshold of the best F1, the highest of equal ones.

    It is the middle between the lowest probability that is taken and the next one, so that rounding moves no image
    across it; `NEUTRAL` for a class that no image has.
    """
    if not len(truth):
        return probabilities.new_full((truth.shape[1],), NEUTRAL)
    scores, order = probabilities.sort(dim=0, descending=True, stable=True)
    hits = truth.gather(0, order).cumsum(0)  # (N, classes): of the first 1, 2, ... images
    taken = torch.arange(1, len(scores) + 1, device=scores.device)[:, None]
    following = torch.cat([scores[1:], torch.zeros_like(scores[:1])])
    f1 = 2 * hits / (taken + truth.sum(0))
    f1 = f1.masked_fill(scores == following, -1.0)  # equal probabilities are taken together
    best = f1.argmax(0, keepdim=True)
    middle = (scores.gather(0, best) + following.gather(0, best))[0] / 2
    return torch.where(truth.any(0), middle, NEUTRAL)


def make_loss(name: str, smoothing: float) -> Any:
    """Make the loss of logits and targets `(B, classes)` of 0 and 1; smoothing takes each target towards 1/2.

    `bce` is the binary cross-entropy and `asymmetric` the loss of Ridnik et al. 2021 (Asymmetric Loss For Multi-Label
    Classification) with timm's gammas 4 and 1 and margin 0.05; both are means over images and classes.
    """
    if name == "asymmetric":
        return AsymmetricLossMultiLabel(smoothing=smoothing, reduction="mean")
    return BinaryCrossEntropy(smoothing=smoothing, smooth_dense=True)
