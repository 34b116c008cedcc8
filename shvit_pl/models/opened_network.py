"""A network that is open, and what is known of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import nn

from shvit_pl.models.labels import class_names

Origin = Literal["design", "checkpoint", "hub", "timm"]


@dataclass(frozen=True)
class OpenedNetwork:
    """A network and what is known of it.

    Attributes:
        name: As it was given, with the file of its weights.
        model: On the CPU, `(B, 3, S, S)` to `(B, classes)`; of `open_network`, in evaluation mode, with one classifier.
        origin: Where it is from.
        image_size: Side in pixels of the images that it is made for.
        mean: Of its normalisation, per channel, for pixels from 0 to 1.
        std: Likewise.
        crop_pct: As in `eval_transform`.
        resize: Likewise: crop or squash.
        class_names: Index by index, where known.
        descriptions: Other names of the same classes, comma-separated, where known.
        averaged: Whether the weights are a moving average.
        fresh: Whether they are those of no training: a design's, and timm's unless asked for.
    """

    name: str
    model: nn.Module
    origin: Origin
    image_size: int
    mean: Sequence[float] = IMAGENET_DEFAULT_MEAN  # our data module knows no other normalisation
    std: Sequence[float] = IMAGENET_DEFAULT_STD
    crop_pct: float = 0.875
    resize: Literal["crop", "squash"] = "crop"
    class_names: list[str] | None = None
    descriptions: list[str] | None = None
    averaged: bool = False
    fresh: bool = False

    @property
    def weights(self) -> str:
        """Of what kind they are."""
        if self.fresh:
            return "fresh"
        return "averaged" if self.averaged else "trained"


def opened_of_timm(name: str, model: Any) -> OpenedNetwork:
    """A network of timm, with what its settings say of it."""
    cfg = model.pretrained_cfg
    names, descriptions = class_names(cfg, model.num_classes)
    return OpenedNetwork(
        name,
        model,
        "timm",
        int(cfg["input_size"][-1]),
        tuple(cfg["mean"]),
        tuple(cfg["std"]),
        float(cfg["crop_pct"]),
        class_names=names,
        descriptions=descriptions,
    )
