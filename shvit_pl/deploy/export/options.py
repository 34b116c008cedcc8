"""The options of an export and the formats, checked before anything slow, without torch."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from jsonargparse.typing import NonNegativeFloat, PositiveInt, restricted_number_type

from shvit_pl.deploy.flags import AVERAGED, Weights, check_of_timm
from shvit_pl.errors import UserError

if TYPE_CHECKING:  # mypy takes no type that a function makes
    Count = int
    Opset = int
    Share = float
else:
    Count, Share = PositiveInt, NonNegativeFloat
    Opset = restricted_number_type("OpsetInt", int, [(">=", 18), ("<=", 23)])  # that PyTorch's exporter writes

FormatName = Literal["onnx", "torch-export", "coreml", "executorch"]


@dataclass(frozen=True)
class Format:
    """A file format of exports."""

    suffix: str
    """Suffix of the files."""
    module: str
    """Name of its module, which has `save`, `load`, `read_metadata`, `describe` and `example_of_use`."""
    extra: str | None
    """Extra of this package that it needs."""
    dynamic: bool
    """One file takes batches of any size."""
    dtypes: tuple[str, ...]
    """Number types that its graph may have; the first is the default."""
    runs_as: str
    """Program that runs the files."""

    def load_module(self) -> Any:
        """Return the module that writes and reads the format."""
        return import_module(f"shvit_pl.deploy.{self.module}")

    @property
    def runs_here(self) -> bool:
        """False for CoreML elsewhere than on macOS."""
        return self.suffix != ".mlpackage" or platform.system() == "Darwin"


FORMATS = {
    "onnx": Format(".onnx", "onnx_runtime", "onnx", True, ("fp32", "fp16"), "onnxruntime"),
    "torch-export": Format(".pt2", "export.torch_export", None, True, ("fp32", "fp16"), "torch"),
    "coreml": Format(".mlpackage", "export.coreml_format", "coreml", False, ("fp16", "fp32"), "CoreML"),
    "executorch": Format(".pte", "export.executorch_format", "executorch", False, ("fp32",), "the ExecuTorch runtime"),
}


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """The flags of `shvit-pl export`, and the values that they stand for."""

    network: str
    """A run folder, a checkpoint, a Hub repo (hf-hub:user/name), a design, or timm:NAME."""
    format: FormatName
    """Format to write."""
    output: str | None = None
    """File to write (default: model in a run folder, else the network's name here)."""
    weights: Weights | None = None
    """Weights of a run (default: those that its --monitor watched)."""
    pretrained: bool = False
    """Take timm's weights for timm:NAME."""
    image_size: Count | None = None
    """Side in pixels (default: the network's own)."""
    normalize: bool = False
    """Let the graph take pixels from 0 to 1 and normalize them."""
    softmax: bool = False
    """Let the graph give probabilities instead of logits."""
    dtype: Literal["fp32", "fp16"] | None = None
    """Number type of the graph (default: fp32; coreml fp16)."""
    batch_size: Count | None = None
    """Fixed batch size (default: any; coreml and executorch 1)."""
    opset: Opset | None = None
    """Opset of onnx, 18 to 23 (default: 18)."""
    tolerance: Share | None = None
    """Allowed difference, as a share of the largest output (default: 1e-4; fp16 2e-2)."""
    int8: bool = False
    """Write the convolutions of onnx in int8, and compare top-1 and speed with float."""
    int8_tolerance: Share | None = None
    """Points of top-1 that int8 may cost (default: 1)."""
    data: str | None = None
    """Images for --int8 (default: the run's own dataset, else the digits)."""

    def __post_init__(self) -> None:
        """Raise `UserError` for all mistakes, a line each."""
        if mistakes := list(self._mistakes()):
            raise UserError("\n".join(mistakes))

    def _mistakes(self) -> Iterator[str]:
        if self.format != "onnx":
            for flag, value in (("--opset", self.opset), ("--int8", self.int8)):
                if value:
                    yield f"{flag}: it belongs to --format onnx; with {self.format}, leave it out."
        if not self.int8:
            for flag, setting in (("--int8_tolerance", self.int8_tolerance), ("--data", self.data)):
                if setting is not None:
                    yield f"{flag} {setting}: it belongs to --int8; give that too, or leave it out."
        if self.graph_dtype not in self.spec.dtypes:
            yield f"--dtype {self.graph_dtype}: {self.format} is written in {' or '.join(self.spec.dtypes)} here."
        elif self.int8 and self.dtype == "fp16":
            yield f"--int8 --dtype {self.dtype}: int8 is made from fp32; leave out --dtype."
        try:
            check_of_timm("--pretrained", self.pretrained, self.network)
        except UserError as error:
            yield str(error)
        yield from self._path_mistakes()

    def _path_mistakes(self) -> Iterator[str]:
        path, flag = self.path, f"--output {str(self.path)!r}"
        if path.suffix != self.spec.suffix:
            yield f"{flag}: a file of {self.format} ends in {self.spec.suffix}."
        elif not path.parent.is_dir():
            yield f"{flag}: there is no folder {str(path.parent)!r}; make it first."
        elif path.exists() and path.is_dir() != (self.format == "coreml"):
            yield f"{flag}: something else is there; give another name."

    @property
    def spec(self) -> Format:
        """The format's properties."""
        return FORMATS[self.format]

    @property
    def graph_dtype(self) -> str:
        """The number type of the graph."""
        return self.dtype or self.spec.dtypes[0]

    @property
    def batch(self) -> int | None:
        """The only size of a batch; None for any."""
        return self.batch_size or (None if self.spec.dynamic else 1)

    @property
    def averaged(self) -> bool | None:
        """True for averaged weights, False for raw ones; None for those that a run monitored."""
        return AVERAGED[self.weights]

    @cached_property
    def path(self) -> Path:
        """The file: that of `--output`, else in a run folder `model`, beside a checkpoint, or here."""
        if self.output:
            return Path(self.output).expanduser()
        ending = ("_int8" if self.int8 else "") + self.spec.suffix
        source = Path(self.network).expanduser()
        if source.is_dir():
            return source / f"model{ending}"
        if source.is_file():
            return source.with_name(source.stem + ending)
        return Path(self.network.split(":")[-1].split("/")[-1].split("@")[0] + ending)
