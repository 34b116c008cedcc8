"""What a student is taught by: distances between its answers and the teacher's.

The logits' objectives are the official code's (DeiT's), of which the paper says "DeiT distillation recipe".
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import Tensor
from torch.nn import functional as F

from shvit_pl.teachers.config import DistillConfig

Distance = Callable[[Tensor, Tensor], Tensor]


def hard(student: Tensor, teacher: Tensor) -> Tensor:
    """Cross-entropy of the student's logits `(B, C)` with the teacher's top class."""
    return F.cross_entropy(student, teacher.argmax(dim=1))


def soft(student: Tensor, teacher: Tensor, tau: float = 1.0) -> Tensor:
    """Kullback-Leibler divergence at a temperature, times its square, divided by B times C as in the official code.

    Args:
        student: Logits `(B, C)`.
        teacher: Logits `(B, C)`.
        tau: Temperature.
    """
    return soft_batchmean(student, teacher, tau) / student.shape[1]


def soft_batchmean(student: Tensor, teacher: Tensor, tau: float = 1.0) -> Tensor:
    """As `soft`, but divided by B alone, which is the divergence's definition, and timm's."""
    ours, theirs = (F.log_softmax(logits / tau, dim=1) for logits in (student, teacher))
    return F.kl_div(ours, theirs, reduction="batchmean", log_target=True) * tau**2


def feature(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference of pooled features `(B, F)`, as in timm's `FeatureDistillationTask`."""
    return F.mse_loss(student, teacher)


def make_objective(config: DistillConfig) -> Distance:
    """From the student's answer and the teacher's, both float32, to a scalar."""
    by_name: dict[str, Distance] = {
        "hard": hard,
        "soft": partial(soft, tau=config.tau),
        "soft_batchmean": partial(soft_batchmean, tau=config.tau),
        "feature": feature,
    }
    return by_name[config.objective]
