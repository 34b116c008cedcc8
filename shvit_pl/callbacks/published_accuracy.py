"""Published weights on somebody's copy of ImageNet: whether they reach what is published."""

from __future__ import annotations

import lightning as L
from lightning.pytorch.utilities import rank_zero_only

from shvit_pl.designs.published import IMAGENET_SIZE, TIMM_TOP1
from shvit_pl.models.hub_repos import repo_of

_CLOSE = 0.1  # points, for another decoder or precision


class PublishedAccuracy(L.Callback):
    """Says what top-1 published weights should reach, and whether they do.

    Args:
        source: Where the weights come from.
    """

    def __init__(self, source: str) -> None:
        self.expected = TIMM_TOP1.get(repo_of(source).split("@")[0])

    @rank_zero_only
    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """What is expected, of any data."""
        if self.expected is not None:
            _, images = IMAGENET_SIZE
            print(f"published for these weights: {self.expected:.2f} % top-1 on ImageNet-1k's {images} images")

    @rank_zero_only
    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Compare, where the data is ImageNet's, and all of it."""
        data = trainer.datamodule  # type: ignore[attr-defined]
        is_imagenet = (len(data.class_names), data.rows("validate")) == IMAGENET_SIZE
        if self.expected is not None and is_imagenet and trainer.limit_val_batches == 1.0:
            print(comparison(100 * float(trainer.callback_metrics["val/acc1"]), self.expected))


def comparison(measured: float, expected: float) -> str:
    """Measured beside published top-1, both in %, in a sentence."""
    if abs(measured - expected) <= _CLOSE:
        return f"measured: {measured:.2f} %, as published ({expected:.2f} %): this copy of ImageNet is in order"
    return (
        f"measured: {measured:.2f} %, and {expected:.2f} % is published: look at the images, at the order of their "
        "classes, and at data.image_size and data.crop_pct"
    )
