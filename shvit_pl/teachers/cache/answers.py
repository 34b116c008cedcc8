"""A teacher's answers, kept as their largest logits and the probability of the others."""

from __future__ import annotations

from math import log

import numpy as np
import torch
from torch import Tensor

from shvit_pl.data.views import Columns
from shvit_pl.errors import UserError

_INDEX = np.iinfo(np.int16).max  # classes beyond need a wider integer


def index_type(classes: int) -> str:
    """The integer that numbers so many classes."""
    return "int16" if classes <= _INDEX + 1 else "int32"


def pack(logits: Tensor, top_k: int, tau: float) -> Columns:
    """Keep the largest logits of each answer.

    They are kept as their distance from the largest, which no softmax can tell from the logits and which fits into half
    precision however large they are. The others are kept as one logit, the same for each of them, that leaves them the
    probability at temperature `tau` that they had.

    Args:
        logits: `(B, classes)`.
        top_k: How many to keep.
        tau: Temperature of the softmax.

    Returns:
        `indices` and float16 `logits` `(B, k)`, the largest first, and float32 `tail` `(B,)`; k is `top_k`, but all
        classes where there are no more.

    Raises:
        UserError: for logits that are not finite.
    """
    logits = logits.float()
    if not logits.isfinite().all():
        raise UserError(
            "model.distill.teacher: its logits are not finite. Try --model.distill.teacher_precision fp32, or another "
            "teacher."
        )
    classes = logits.shape[1]
    values, indices = (logits - logits.amax(1, keepdim=True)).sort(stable=True, dim=1, descending=True)
    kept, others = values[:, :top_k], values[:, top_k:]
    tail = logits.new_zeros(len(logits))
    if others.shape[1]:
        tail = tau * ((others / tau).logsumexp(1) - log(others.shape[1]))
    return {
        "indices": indices[:, : kept.shape[1]].cpu().numpy().astype(index_type(classes)),
        "logits": kept.clamp(min=torch.finfo(torch.float16).min).half().cpu().numpy(),
        "tail": tail.cpu().numpy(),
    }


def dense(answers: dict[str, Tensor], classes: int) -> Tensor:
    """Logits `(B, classes)`, float32, of the answers in a batch (`batch["teacher"]`).

    The kept ones stand in their places (less the largest, see `pack`), and the others share the tail's probability.
    """
    logits, tail = answers["logits"].view(torch.float16), answers["tail"].view(torch.float32)
    return tail[:, None].repeat(1, classes).scatter(1, answers["indices"].long(), logits.float())
