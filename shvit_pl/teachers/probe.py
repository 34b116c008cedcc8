"""What one image shows of a teacher's network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from shvit_pl.errors import UserError, one_line
from shvit_pl.models.opened_network import OpenedNetwork
from shvit_pl.teachers.config import DistillConfig


@dataclass(frozen=True)
class Widths:
    """Numbers of classes and of pooled features; 0 features where the network doesn't give them."""

    classes: int
    features: int


def logits_and_features(model: Any, images: Tensor) -> tuple[Tensor, Tensor]:
    """Logits, and the pooled features `(B, F)` that the classifier sees, by timm's model contract."""
    maps = model.forward_features(images)
    return model.forward_head(maps), model.forward_head(maps, pre_logits=True)


@torch.no_grad()
def probe(network: OpenedNetwork, config: DistillConfig) -> Widths:
    """Ask a network about one empty image; raises `UserError` unless it is a classifier of images of its size."""
    size = config.teacher_size or network.image_size
    try:
        image = torch.zeros(1, 3, size, size)
        answer = network.model(image)
    except Exception as error:  # whatever a network runs into with a size that it isn't made for
        raise _cannot_take(size, network, config, one_line(error).rstrip(".")) from error
    problem = _why_no_classifier(answer, getattr(network.model, "num_classes", None))
    if problem:
        raise UserError(
            f"model.distill.teacher {config.source!r}: not a classifier ({problem}). Give a network that was trained "
            "to classify, such as regnety_160.deit_in1k."
        )
    return Widths(answer.shape[1], _feature_width(network.model, image, config))


def _cannot_take(size: int, network: OpenedNetwork, config: DistillConfig, reason: str) -> UserError:
    if config.teacher_size is None:
        return UserError(
            f"model.distill.teacher {config.source!r}: it can't take images of {size} pixels ({reason}). Give their "
            "side with --model.distill.teacher_size, or another teacher."
        )
    return UserError(
        f"model.distill.teacher_size {size}: the teacher can't take images of this size ({reason}). Leave it out for "
        f"the {network.image_size} pixels that the teacher was trained at."
    )


def _why_no_classifier(answer: Any, declared: int | None) -> str:
    if isinstance(answer, tuple | list):
        return f"it answers with {len(answer)} tensors instead of one"
    if not isinstance(answer, Tensor):
        return f"it answers with a {type(answer).__name__}"
    if declared == 0:
        return "it has no classes"
    if answer.ndim != 2:
        return f"its answer to an image is of shape {list(answer.shape)[1:]}, instead of one number per class"
    return "it has a single output" if answer.shape[1] < 2 else ""


def _feature_width(model: nn.Module, image: Tensor, config: DistillConfig) -> int:
    try:
        _, features = logits_and_features(model, image)
        if features.ndim == 2:
            return features.shape[1]
        reason = f"they are of shape {list(features.shape)[1:]}"
    except Exception as error:  # a network outside of timm's model contract
        reason = one_line(error)
    if config.objective == "feature":
        raise UserError(
            f"model.distill.objective 'feature': the teacher {config.source!r} gives no pooled features ({reason}). "
            "Set --model.distill.objective soft, or give another teacher."
        )
    return 0
