"""What a study's numbers depend on: equal settings give equal numbers."""

from __future__ import annotations

from hashlib import sha256
from importlib.metadata import version
from typing import Any

import torch
from torch import nn

from shvit_pl.analysis.heads.request import Request
from shvit_pl.analysis.heads.subject import Subject
from shvit_pl.deploy.measuring import device_name

_LIBRARIES = ("shvit-pl", "timm", "torchvision")


def settings_of(subject: Subject, request: Request) -> dict[str, Any]:
    """All that a study must share with an interrupted one to go on with it.

    Args:
        subject: What is studied.
        request: What was asked for.
    """
    data = subject.images.data
    return {
        "network": subject.opened.name,
        "weights": subject.opened.weights,
        "weights_sha256": _digest(subject.opened.model),
        "model_kwargs": dict(request.model_kwargs),
        "image_size": subject.image_size,
        "data": subject.images.path,
        "data_commit": data.commit,
        "validation_images": subject.images.rows,
        "images": len(subject.looked_at),
        "ablation_images": len(subject.scored),
        "labels": subject.reference.labels,
        "vectorise": request.vectorise,
        "class_token": request.class_token,
        "query": None if request.query is None else list(request.query),
        "image": request.image,
        "batch_size": subject.batch_size,
        "device": device_name(subject.device),
        "torch": torch.__version__,
        **{name: version(name) for name in _LIBRARIES},
    }


def _digest(model: nn.Module) -> str:
    """Of all weights and buffers."""
    hashed = sha256()
    for name, tensor in model.state_dict().items():
        hashed.update(name.encode())
        hashed.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return hashed.hexdigest()
