"""Options of the studies, checked before anything slow is imported."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from jsonargparse.typing import NonNegativeInt, PositiveInt

from shvit_pl.deploy.flags import AVERAGED, check_of_timm, output_folder
from shvit_pl.errors import UserError


@dataclass(frozen=True)
class HeadsOptions:
    """Options of the heads study."""

    network: str
    """timm:NAME, a run folder, checkpoint, Hub repo or design"""
    pretrained: bool = False
    """timm:NAME with timm's weights (default: fresh ones)"""
    checkpoint: str | None = None
    """timm:NAME with the weights of this file"""
    model_kwargs: dict[str, Any] = field(default_factory=dict)
    """of timm:NAME, such as '{num_heads: 6}'"""
    weights: Literal["raw", "ema"] | None = None
    """of a run (default: those that its --monitor watched)"""
    image_size: PositiveInt | None = None
    """side in pixels (default: the network's own)"""
    data: str | None = None
    """the dataset (default: the run's own, else the digits)"""
    images: PositiveInt = 128
    """validation images for similarity and maps (default: the paper's 128)"""
    ablation_images: PositiveInt | None = None
    """validation images for top-1 (default: all)"""
    vectorize: Literal["map", "query"] = "map"
    """cosine of whole maps, or mean cosine of their rows, one per query (default: map)"""
    class_token: Literal["keep", "drop"] = "keep"
    """keep or drop the class token's row and column of the maps (default: keep)"""
    labels: Literal["dataset", "network"] | None = None
    """measure top-1 against the dataset's labels, or against the intact network's predictions (default: the dataset's
    where its classes are the network's)"""
    query: tuple[NonNegativeInt, NonNegativeInt] | None = None
    """ROW,COL from 0, in the first layer's grid, whose maps are drawn (default: central)"""
    image: NonNegativeInt | None = None
    """draw the maps on this one of --images, from 0 (default: their mean over all)"""
    batch_size: PositiveInt = 32
    """images at once"""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 or mps"""
    output: str = "heads"
    """folder of the results; earlier ones are replaced"""

    def __post_init__(self) -> None:
        for flag in ("pretrained", "checkpoint", "model_kwargs"):
            check_of_timm(f"--{flag}", getattr(self, flag), self.network)
        if self.checkpoint is not None:
            _check_checkpoint(self.checkpoint, self.pretrained)
        if self.image is not None and self.image >= self.images:
            raise UserError(f"--image {self.image}: allowed are 0 to {self.images - 1}, those of --images.")
        if self.data == "":
            raise UserError("--data '': give a dataset, such as digits.")
        output_folder(self.output)

    @property
    def averaged(self) -> bool | None:
        """Whether to take a run's averaged weights; `None` for those that it monitored."""
        return AVERAGED[self.weights]


def _check_checkpoint(checkpoint: str, pretrained: bool) -> None:
    if pretrained:
        raise UserError(f"--checkpoint {checkpoint!r}: --pretrained takes timm's weights; give one of the two.")
    if not Path(checkpoint).expanduser().is_file():
        raise UserError(f"--checkpoint {checkpoint!r}: no such file; give a .safetensors or .pth file.")
