"""Top-1 without one head, and with one alone (paper sec. 2.2, Fig. 3 and 4)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from shvit_pl.analysis.heads.attention.ablation import ablations
from shvit_pl.analysis.heads.found.sums import Found
from shvit_pl.analysis.heads.subject import Subject


def add_scores(found: Found, subject: Subject, images: Tensor, labels: Tensor, step: Callable[[], object]) -> None:
    """Count a batch's right answers in; only once all its layers are done.

    Args:
        found: What was found before.
        subject: What is studied.
        images: The batch `(B, 3, S, S)`.
        labels: The dataset's `(B,)`.
        step: Called after each pass with heads left out.
    """
    model, matching = subject.opened.model, []
    with torch.no_grad():
        intact = model(images).argmax(-1)
        targets = labels if subject.reference.labels == "dataset" else intact
        for _, logits in ablations(model, subject.layers, images, step):  # (2, heads, B, classes)
            matching.append((logits.argmax(-1) == targets).sum(-1).cpu())
    before = found.matching or [torch.zeros_like(counts) for counts in matching]
    found.matching = [old + new for old, new in zip(before, matching, strict=True)]
    found.intact += int((intact == targets).sum())
    found.images += len(images)
