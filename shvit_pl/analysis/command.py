"""`shvit-pl analyze`: the studies and their options, checked before anything slow is imported."""

from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, NamedTuple

from shvit_pl.command_line import parser, ranges
from shvit_pl.deploy import options as deploy
from shvit_pl.errors import UserError, did_you_mean
from shvit_pl.runs.folder import Weights

Labels = Literal["dataset", "network"]
Scope = Literal["attention", "network"]
Vectorize = Literal["map", "query"]


@dataclass(frozen=True, kw_only=True)
class PassesOptions(deploy.MeasuringOptions):
    """Options of the studies that take forward passes apart."""

    device: str = "auto"
    """auto, cpu, cuda or cuda:1."""
    batch_size: ranges.Images | None = None
    """Images per batch (default: 256 on a GPU, 16 on a CPU)."""
    image_size: ranges.Pixels | None = None
    """Image side in pixels (default: each network's own)."""
    dtype: deploy.Dtype = "fp32"
    """Precision."""
    repeats: ranges.Repeats = 20
    """Measured passes; results are medians."""


@dataclass(frozen=True, kw_only=True)
class MacroOptions(PassesOptions):
    """Options of the macro study."""

    models: tuple[str, ...] = ("macro_a", "macro_b")  # as Fig. 2
    """A design (s1), run folder, checkpoint or Hub repo of shvit-pl."""
    output: str = "macro"


@dataclass(frozen=True, kw_only=True)
class RuntimeOptions(PassesOptions):
    """Options of the runtime study."""

    models: tuple[str, ...] = ("timm:swin_tiny_patch4_window7_224", "timm:deit_tiny_patch16_224", "s2")  # as Fig. 7
    """A design (s1), run folder, checkpoint, Hub repo or timm:NAME."""
    scope: Scope = "attention"
    """Measure the attention of the blocks (all but their FFNs), or the whole network."""
    output: str = "runtime"


@dataclass(frozen=True)
class HeadsOptions(deploy.CheckedOptions):
    """Options of the heads study."""

    network: str
    """timm:NAME, a run folder, checkpoint, Hub repo or design."""
    pretrained: bool = False
    """Use timm's pretrained weights for timm:NAME (default: fresh ones)."""
    checkpoint: str | None = None
    """File of weights for timm:NAME."""
    model_kwargs: dict[str, Any] = field(default_factory=dict)
    """Arguments of timm:NAME, such as '{num_heads: 6}'."""
    weights: Weights | None = None
    """Weights of a run, raw or ema (default: those that its --monitor selected)."""
    image_size: ranges.FromOne | None = None
    """Image side in pixels (default: the network's own)."""
    data: str | None = None
    """The dataset (default: the run's own, else the digits)."""
    images: ranges.FromOne = 128
    """Validation images for similarity and maps (default: the paper's 128)."""
    ablation_images: ranges.FromOne | None = None
    """Validation images for top-1 (default: all)."""
    vectorize: Vectorize = "map"
    """Cosine of whole maps, or mean cosine of their rows, one per query (default: map)."""
    class_token: Literal["keep", "drop"] = "keep"
    """Keep or drop the class token's row and column of the maps (default: keep)."""
    labels: Labels | None = None
    """Measure top-1 against the dataset's labels, or against the intact network's predictions (default: the dataset's
    where its classes are the network's)."""
    query: tuple[ranges.FromZero, ranges.FromZero] | None = None
    """Draw the maps of the query at ROW,COL, from 0, of the first layer's grid (default: the center)."""
    image: ranges.FromZero | None = None
    """Draw the maps of this one of --images, from 0 (default: the mean of all)."""
    batch_size: ranges.FromOne = 32
    """Images per batch."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 or mps."""
    output: str = "heads"
    """Output folder; earlier results in it are replaced."""

    def mistakes(self) -> Iterator[str]:
        """Yield a message for each mistake."""
        own = ("pretrained", "checkpoint", "model_kwargs")
        foreign = [line for flag in own for line in deploy.mistakes_of_timm(flag, getattr(self, flag), self.network)]
        yield from foreign
        if self.checkpoint is None:
            yield from deploy.mistakes_of_weights(self.weights, self.network)
        elif self.pretrained:
            yield f"--checkpoint {self.checkpoint!r}: --pretrained takes timm's weights; give only one of them."
        elif not (foreign or Path(self.checkpoint).expanduser().is_file()):
            yield f"--checkpoint {self.checkpoint!r}: no such file; give a .safetensors or .pth file."
        if self.image is not None and self.image >= self.images:
            yield f"--image {self.image}: allowed are 0 to {self.images - 1}, those of --images."
        if self.data == "":
            yield "--data '': give a dataset, such as digits."
        yield from deploy.output_mistakes(self.output, HeadsOptions.output)
        yield from deploy.mistakes_here(self.device, self.network)


class Study(NamedTuple):
    """A study as a command; its `run` is in the module of its name with `_report`."""

    options: type[HeadsOptions | MacroOptions | RuntimeOptions]
    """Its flags; the first one is given by position."""
    help: str
    description: str


STUDIES = {
    "heads": Study(
        HeadsOptions,
        "how similar attention heads are, and how much accuracy depends on each",
        "Measure how similar the attention maps of a layer's heads are, top-1 without one head and with only one, and "
        "what the heads attend to, as in the paper's Figures 3 and 4.",
    ),
    "runtime": Study(
        RuntimeOptions,
        "where the time of attention goes, by kind of operation",
        "Measure where the time of attention goes: matrix products, elementwise operations, normalization, copies and "
        "reshapes, compared with the paper's Fig. 7. By torch.profiler: operator time on a CPU, kernel time on a GPU. "
        "Fused attention is switched off, as it is a single operator.",
    ),
    "macro": Study(
        MacroOptions,
        "what each stage of a design costs, and how close it is to the device's limits",
        "Measure what each stage of a design costs: tokens, MACs, bytes, time and receptive field, and its place under "
        "the device's roofline, whose peaks are those of a large matrix product and a large copy.",
    ),
}


def run(args: list[str]) -> None:
    """Run one study; `args` begin with the command's own name.

    Raises `UserError` for an unknown study, and for what the study itself refuses.
    """
    if len(args) == 1:
        raise UserError(f"give a study, one of {', '.join(STUDIES)}; shvit-pl analyze --help describes them.")
    name = args[1]
    if name in ("-h", "--help"):
        rows = "\n".join(f"  {name:<9}{study.help}" for name, study in STUDIES.items())
        print(f"usage: shvit-pl analyze STUDY [options]\n\n{rows}\n")
        print("shvit-pl analyze STUDY --help shows a study's options.")
        return
    if name not in STUDIES:
        raise UserError(f"{name!r}: allowed are {', '.join(STUDIES)}{did_you_mean(name, STUDIES)}.")
    flags, _, description = STUDIES[name]
    first = fields(flags)[0].name
    options = parser.read_options(
        flags, args[2:], command=f"analyze {name}", description=description, positional=[first]
    )
    from shvit_pl.command_line.quiet import quiet  # imports torch, which no help waits for

    quiet()
    import_module(f"shvit_pl.analysis.{name}_report").run(options, ["shvit-pl", "analyze", *args[1:]])
