"""What the classes of a saved model are called."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from timm.data import ImageNetInfo, infer_imagenet_subset


def class_names(cfg: Mapping[str, Any], classes: int) -> tuple[list[str] | None, list[str] | None]:
    """Names of the classes, and descriptions of them: the source's own, or ImageNet's for as many classes as it has."""
    names = cfg.get("label_names")
    if names:
        texts = cfg.get("label_descriptions") or {}
        return list(map(str, names)), [str(texts.get(name, name)) for name in names]
    subset = infer_imagenet_subset({"num_classes": classes})
    if subset is None:
        return None, None
    info = ImageNetInfo(subset)
    return info.label_names(), info.label_descriptions()
