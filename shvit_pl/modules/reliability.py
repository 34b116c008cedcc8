"""How far a classifier's confidence can be trusted: calibration by a temperature, and images of no class it knows."""

from dataclasses import dataclass
from math import exp, log

import torch
from torch import Tensor, nn
from torchmetrics.functional.classification import binary_auroc, binary_roc, multiclass_calibration_error

from shvit_pl.randomness import generator_of

BINS = 15  # of the calibration error, as in Guo et al. 2017
LIMITS = 0.05, 20.0  # of a temperature
_KEPT = 0.95  # the share of known images that are kept, where the unknown ones are counted


@dataclass(frozen=True)
class Calibration:
    """A temperature, and what it does to images that it was not fitted on."""

    temperature: float
    """Fitted on all images."""
    ece_before: float
    """Expected calibration error of the logits as they are."""
    ece_after: float
    """The same, where each half of the images is divided by the temperature of the other half."""
    nll_before: float
    """Mean cross-entropy of the logits as they are."""
    nll_after: float
    """The same, of the halves."""
    images: int


def calibration(logits: Tensor, labels: Tensor) -> Calibration:
    """Return a temperature for logits `(N, classes)`, and its effect by two halves, drawn at random but always alike.

    Fitted and judged on the same images, it would look better than it is.
    """
    logits = logits.float()
    order = torch.randperm(len(labels), generator=generator_of(len(labels))).to(labels.device)
    halves = order[: len(order) // 2], order[len(order) // 2 :]
    divided = torch.empty_like(logits)
    for fitted, judged in (halves, halves[::-1]):
        divided[judged] = logits[judged] / fit_temperature(logits[fitted], labels[fitted])
    return Calibration(
        fit_temperature(logits, labels),
        calibration_error(logits, labels),
        calibration_error(divided, labels),
        float(nn.functional.cross_entropy(logits, labels)),
        float(nn.functional.cross_entropy(divided, labels)),
        len(labels),
    )


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """Return the temperature of least mean cross-entropy, within `LIMITS` (Guo et al. 2017, section 4.2).

    The cross-entropy is convex in the inverse of the temperature, so a golden-section search finds its only minimum.
    """
    low, high = (log(limit) for limit in LIMITS)
    ratio = (5**0.5 - 1) / 2
    inner = [high - ratio * (high - low), low + ratio * (high - low)]
    losses = [_loss(logits, labels, exp(place)) for place in inner]
    while high - low > 1e-4:
        if losses[0] <= losses[1]:
            high, inner[1], losses[1] = inner[1], inner[0], losses[0]
            inner[0] = high - ratio * (high - low)
            losses[0] = _loss(logits, labels, exp(inner[0]))
        else:
            low, inner[0], losses[0] = inner[0], inner[1], losses[1]
            inner[1] = low + ratio * (high - low)
            losses[1] = _loss(logits, labels, exp(inner[1]))
    return exp((low + high) / 2)


def _loss(logits: Tensor, labels: Tensor, temperature: float) -> float:
    losses = nn.functional.cross_entropy(logits.float() / temperature, labels, reduction="none")
    return float(losses.double().mean()) if losses.device.type != "mps" else float(losses.mean())


def calibration_error(logits: Tensor, labels: Tensor) -> float:
    """Return the expected calibration error (ECE) of logits `(N, classes)`, by `BINS` bins of equal width."""
    probabilities = logits.float().softmax(-1)
    return float(multiclass_calibration_error(probabilities, labels, logits.shape[-1], n_bins=BINS, norm="l1"))


@dataclass(frozen=True)
class Separation:
    """How well a score tells images of known classes from others."""

    auroc: float
    """Area under the ROC curve: the share of pairs in which the known image has the higher score."""
    fpr95: float
    """The share of the others that pass where 95 % of the known ones do."""


def scores(logits: Tensor) -> dict[str, Tensor]:
    """Return scores `(N,)` that are high for known classes.

    Those are the maximum softmax probability (Hendrycks & Gimpel 2017), and the negative energy (Liu et al. 2020).
    """
    logits = logits.float()
    return {"max_softmax": logits.softmax(-1).amax(-1), "energy": logits.logsumexp(-1)}


def separation(known: Tensor, others: Tensor) -> Separation:
    """Compare the scores `(N,)` of images of known classes with those `(M,)` of others."""
    together = torch.cat([known, others]).cpu()
    ranks = torch.unique(together, return_inverse=True)[
        1
    ]  # torchmetrics wants values from 0 to 1; equal ones stay equal
    ranks = ranks.double() / max(1, int(ranks.max()))
    is_known = torch.cat([torch.ones(len(known)), torch.zeros(len(others))]).long()
    false, true, _ = binary_roc(ranks, is_known)
    return Separation(float(binary_auroc(ranks, is_known)), float(false[true >= _KEPT - 1e-9][0]))
