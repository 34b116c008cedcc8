"""Options of the studies, checked before anything slow is imported."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from jsonargparse.typing import NonNegativeInt, PositiveInt

from shvit_pl.deploy.options import (
    Dtype,
    Images,
    MeasuringOptions,
    Pixels,
    Repeats,
    Weights,
    check_of_timm,
    output_folder,
)
from shvit_pl.errors import UserError


@dataclass(frozen=True, kw_only=True)
class PassesOptions(MeasuringOptions):
    """Options of the studies that take forward passes apart."""

    device: str = "auto"
    """auto, cpu, cuda or cuda:1."""
    batch_size: Images | None = None
    """Images of a batch (default: 256 on a GPU, 16 on a CPU)."""
    image_size: Pixels | None = None
    """Side in pixels (default: each network's own)."""
    dtype: Dtype = "fp32"
    """Number type."""
    repeats: Repeats = 20
    """Passes, of which the median is taken."""


@dataclass(frozen=True, kw_only=True)
class MacroOptions(PassesOptions):
    """Options of the macro study."""

    models: tuple[str, ...] = ("macro_a", "macro_b")  # of Fig. 2
    """A design (s1), run folder, checkpoint or Hub repo of ours."""
    output: str = "macro"
    """Folder of the results; earlier ones are replaced."""


@dataclass(frozen=True, kw_only=True)
class RuntimeOptions(PassesOptions):
    """Options of the runtime study."""

    models: tuple[str, ...] = ("timm:swin_tiny_patch4_window7_224", "timm:deit_tiny_patch16_224", "s2")  # of Fig. 7
    """A design (s1), run folder, checkpoint, Hub repo or timm:NAME."""
    scope: Literal["attention", "network"] = "attention"
    """Measure the attention of the blocks (all but their FFNs), or the whole network."""
    output: str = "runtime"
    """Folder of the results; earlier ones are replaced."""


@dataclass(frozen=True)
class HeadsOptions:
    """Options of the heads study."""

    network: str
    """timm:NAME, a run folder, checkpoint, Hub repo or design."""
    pretrained: bool = False
    """timm:NAME with timm's weights (default: fresh ones)."""
    checkpoint: str | None = None
    """timm:NAME with the weights of this file."""
    model_kwargs: dict[str, Any] = field(default_factory=dict)
    """Arguments of timm:NAME, such as '{num_heads: 6}'."""
    weights: Weights | None = None
    """Weights of a run (default: those that its --monitor tracked)."""
    image_size: PositiveInt | None = None
    """Side in pixels (default: the network's own)."""
    data: str | None = None
    """The dataset (default: the run's own, else the digits)."""
    images: PositiveInt = 128
    """Validation images for similarity and maps (default: the paper's 128)."""
    ablation_images: PositiveInt | None = None
    """Validation images for top-1 (default: all)."""
    vectorize: Literal["map", "query"] = "map"
    """Cosine of whole maps, or mean cosine of their rows, one per query (default: map)."""
    class_token: Literal["keep", "drop"] = "keep"
    """Keep or drop the class token's row and column of the maps (default: keep)."""
    labels: Literal["dataset", "network"] | None = None
    """Measure top-1 against the dataset's labels, or against the intact network's predictions (default: the dataset's
    where its classes are the network's)."""
    query: tuple[NonNegativeInt, NonNegativeInt] | None = None
    """ROW,COL from 0, in the first layer's grid, whose maps are drawn (default: central)."""
    image: NonNegativeInt | None = None
    """Draw the maps on this one of --images, from 0 (default: their mean over all)."""
    batch_size: PositiveInt = 32
    """Images at once."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 or mps."""
    output: str = "heads"
    """Folder of the results; earlier ones are replaced."""

    def __post_init__(self) -> None:
        for flag in ("pretrained", "checkpoint", "model_kwargs"):
            check_of_timm(f"--{flag}", getattr(self, flag), self.network)
        if self.checkpoint is not None and self.pretrained:
            raise UserError(
                f"--checkpoint {self.checkpoint!r}: --pretrained takes timm's weights; give only one of them."
            )
        if self.checkpoint is not None and not Path(self.checkpoint).expanduser().is_file():
            raise UserError(f"--checkpoint {self.checkpoint!r}: no such file; give a .safetensors or .pth file.")
        if self.image is not None and self.image >= self.images:
            raise UserError(f"--image {self.image}: allowed are 0 to {self.images - 1}, those of --images.")
        if self.data == "":
            raise UserError("--data '': give a dataset, such as digits.")
        output_folder(self.output)
