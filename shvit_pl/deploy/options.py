"""The flags of the commands that measure and export, their types and checks, and the formats; read without torch."""

import platform
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from shvit_pl.command_line.config_files import find_config
from shvit_pl.command_line.ranges import FromOne, Images, NonNegative, Opset, Pixels, Positive, Repeats, Threads
from shvit_pl.designs.design import NAMED
from shvit_pl.errors import collected, refuse
from shvit_pl.runs.folder import Weights

Dtype = Literal["fp32", "bf16", "fp16"]
FormatName = Literal["onnx", "torch-export", "coreml", "executorch"]
Mode = Literal["official", "eager", "compiled", "reduce-overhead", "max-autotune", "optimized"]

TORCHVISION = "torchvision:"
_OF_TORCHVISION = ("retinanet_resnet50_fpn", "maskrcnn_resnet50_fpn")
PAPER_BATCH = {"cuda": 256, "cpu": 16, "mps": 16}  # images, the default of --batch_size
# Fusing and other orders of summation move float32 by about 1e-6 of the largest output; float16 rounds every layer's
# output to 11 bits, which a hundred layers in a row add up. A wrong operator or weight moves far more.
_TOLERANCES = {"fp32": 1e-4, "fp16": 2e-2}
_SET_BY_OFFICIAL = ("mode", "dtype", "runtime", "blocks", "train", "optimize")  # flags


@dataclass(frozen=True, kw_only=True)
class CheckedOptions:
    """Options whose mistakes are all found at once."""

    def __post_init__(self) -> None:
        refuse(self.mistakes())

    def mistakes(self) -> Iterator[str]:
        """Yield a message for each value that is impossible or contradicts another one."""
        yield from ()


@dataclass(frozen=True, kw_only=True)
class MeasuringOptions(CheckedOptions):
    """The options that all commands that measure have."""

    models: tuple[str, ...]
    """A design (s1), run folder, checkpoint, Hub repo (user/name) or timm:NAME."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 or mps."""
    threads: Threads | None = None
    """CPU threads, at most one per core (default: torch's)."""
    output: str
    """Output folder; earlier results in it are replaced."""

    def mistakes(self) -> Iterator[str]:
        """Yield a message for each mistake."""
        yield from output_mistakes(self.output, vars(type(self))["output"])
        yield from mistakes_here(self.device, *self.networks)

    @property
    def networks(self) -> tuple[str, ...]:
        """The models whose names are those of networks that classify images."""
        return self.models


@dataclass(frozen=True, kw_only=True)
class BenchmarkOptions(MeasuringOptions):
    """The flags of `shvit-pl benchmark`, and the values that they stand for."""

    models: tuple[str, ...]
    """A design (s1), run folder, checkpoint, Hub repo (user/name) or timm:NAME; or a config or run of detection."""
    batch_size: tuple[Images, ...] | None = None
    """Images per batch, such as 1,32 (default: 256 on a GPU, 16 on a CPU)."""
    image_size: tuple[Pixels, ...] | None = None
    """Image side in pixels, such as 224,512 (default: each network's own)."""
    mode: tuple[Mode, ...] | None = None
    """How torch runs a network (default: eager,optimized; with --train, eager)."""
    optimize: bool = False
    """Add optimized to the modes."""
    dtype: tuple[Dtype, ...] | None = None
    """Precision (default: fp32; official sets its own)."""
    runtime: tuple[Literal["torch", "onnx"], ...] = ("torch",)
    """Inference runtimes."""
    train: bool = False
    """Measure training steps: mixing, forward, backward, clipping, AdamW, moving average."""
    weights: Weights | None = None
    """Weights of runs, raw or ema (default: those that their --monitor selected)."""
    output: str = "benchmark"
    """Output folder; an earlier benchmark under the same conditions is replaced."""
    compare: str | None = None
    """Folder of an earlier benchmark under the same conditions, to compare with."""
    protocol: Literal["interleaved", "official"] = "interleaved"
    """official times networks as its speed_test.py: one after the other, with one thread on a CPU."""
    blocks: Repeats | None = None
    """Timed blocks per network, at least 5 (default: 7)."""
    seconds: Positive | None = None
    """Seconds per block (default: 0.5), or of the official timing (default: 60)."""
    warm_up: Positive | None = None
    """Seconds of the official warm-up (default: 10)."""

    def mistakes(self) -> Iterator[str]:
        """Yield a message for each mistake."""
        yield from super().mistakes()
        yield from mistakes_of_weights(self.weights, *self.models)
        for name in sorted(set(self.models) - set(self.networks)):
            yield from mistakes_of_detector(name)
        if self.compare == "":
            yield "--compare '': give a folder, such as benchmark."
        if self.protocol == "official":
            for flag in _SET_BY_OFFICIAL:
                value = getattr(self, flag)
                if value != getattr(BenchmarkOptions, flag):
                    text = ",".join(value) if isinstance(value, tuple) else value
                    yield (
                        f"--{flag} {text}: --protocol official sets it itself. Leave it out; to measure the official "
                        "network with others, give --mode official,eager,optimized instead."
                    )
            if self.threads not in (None, 1):
                yield f"--threads {self.threads}: --protocol official uses one thread; leave it out."
        elif self.warm_up is not None:
            yield "--warm_up: only with --protocol official; otherwise the warm-up runs until timings stop improving."
        if self.train and "onnx" in self.runtime:
            yield "--runtime onnx: for inference only; leave out --train or --runtime onnx."
        if self.train and "fp16" in self.dtypes:
            yield "--dtype fp16: the recipe trains in fp32 or bf16; give one of these with --train."
        if self.runtime == ("onnx",) and "fp32" not in self.dtypes:
            yield f"--dtype {','.join(self.dtypes)}: with --runtime onnx, allowed is fp32."
        if self.runtime == ("onnx",) and self.mode:
            yield f"--mode {','.join(self.mode)}: it needs --runtime torch; leave it out, or give --runtime torch,onnx."

    @property
    def networks(self) -> tuple[str, ...]:
        """The models whose names are not those of configs and of torchvision's detectors."""
        return tuple(name for name in self.models if not is_named_detector(name))

    @property
    def modes(self) -> tuple[str, ...]:
        """The modes to measure, each once."""
        if self.protocol == "official":
            return ("official",)
        modes = self.mode or (("eager",) if self.train else ("eager", "optimized"))
        return tuple(dict.fromkeys((*modes, *["optimized"] * self.optimize)))

    @property
    def dtypes(self) -> tuple[str, ...]:
        """The number types to measure."""
        return self.dtype or ("fp32",)

    @property
    def rounds(self) -> int:
        """Measurements of each cell; the official protocol makes one."""
        return 1 if self.protocol == "official" else self.blocks or 7

    @property
    def block_seconds(self) -> float:
        """Seconds of one measurement."""
        return self.seconds or (60.0 if self.protocol == "official" else 0.5)

    @property
    def warm_up_seconds(self) -> float:
        """Seconds of the official warm-up."""
        return self.warm_up or 10.0

    @property
    def conditions(self) -> dict[str, Any]:
        """The flags that a number depends on, besides its row and the machine."""
        is_official = self.protocol == "official"
        return {
            "task": "train" if self.train else "infer",
            "protocol": self.protocol,
            "blocks": None if is_official else self.rounds,
            "seconds": self.block_seconds,
            "warm_up": self.warm_up_seconds if is_official else "until timings stop improving",
        }


@dataclass(frozen=True)
class Format:
    """A file format of exports."""

    suffix: str
    extra: str | None
    """Extra of this package that it needs."""
    dynamic: bool
    """One file takes batches of any size."""
    dtypes: tuple[str, ...]
    """Number types that its graph may have; the first is the default."""
    runs_as: str
    """Program that runs the files."""

    @property
    def runs_here(self) -> bool:
        """False for CoreML elsewhere than on macOS."""
        return self.suffix != ".mlpackage" or platform.system() == "Darwin"


FORMATS = {
    "onnx": Format(".onnx", "onnx", True, ("fp32", "fp16"), "onnxruntime"),
    "torch-export": Format(".pt2", None, True, ("fp32", "fp16"), "torch"),
    "coreml": Format(".mlpackage", "coreml", False, ("fp16", "fp32"), "CoreML"),
    "executorch": Format(".pte", "executorch", False, ("fp32",), "the ExecuTorch runtime"),
}


@dataclass(frozen=True, kw_only=True)
class ExportOptions(CheckedOptions):
    """The flags of `shvit-pl export`, and the values that they stand for."""

    network: str
    """A run folder, a checkpoint, a Hub repo (hf-hub:user/name), a design, or timm:NAME."""
    format: FormatName
    """File format, such as onnx."""
    output: str | None = None
    """Output file (default: model in the run folder, else the network's name in this folder)."""
    weights: Weights | None = None
    """Weights of a run, raw or ema (default: those that its --monitor selected)."""
    pretrained: bool = False
    """Use timm's pretrained weights for timm:NAME."""
    image_size: FromOne | None = None
    """Image side in pixels (default: the network's own)."""
    normalize: bool = False
    """Normalize in the graph, which then takes pixels from 0 to 1."""
    softmax: bool = False
    """Return probabilities instead of logits."""
    dtype: Literal["fp32", "fp16"] | None = None
    """Precision of the graph (default: fp32; coreml: fp16)."""
    batch_size: FromOne | None = None
    """Fixed batch size (default: any; coreml and executorch 1)."""
    opset: Opset | None = None
    """ONNX opset, 18 to 23 (default: 18)."""
    tolerance: NonNegative | None = None
    """Allowed difference relative to the largest output (default: 1e-4; fp16: 2e-2)."""
    dense: bool = False
    """Of a detector all boxes and scores, for any batch, instead of those after NMS for one image."""
    int8: bool = False
    """Quantize the convolutions (onnx only), and compare top-1 and speed with float."""
    int8_tolerance: NonNegative | None = None
    """Allowed loss of top-1 by --int8, in points of 0.01 (default: 1)."""
    data: str | None = None
    """Dataset to verify the file on, and for --int8 (default: the run's own, else the digits)."""

    def mistakes(self) -> Iterator[str]:
        """Yield a message for each mistake."""
        if self.format != "onnx":
            for flag, value in (("--opset", self.opset), ("--int8", self.int8)):
                if value:
                    yield f"{flag}: only with --format onnx; leave it out with {self.format}."
        if self.int8_tolerance is not None and not self.int8:
            yield f"--int8_tolerance {self.int8_tolerance}: only with --int8; add --int8, or leave it out."
        if self.data == "":
            yield "--data '': give a dataset, such as digits."
        if self.graph_dtype not in self.spec.dtypes:
            yield f"--dtype {self.graph_dtype}: {self.format} is written in {' or '.join(self.spec.dtypes)} here."
        elif self.int8 and self.dtype == "fp16":
            yield f"--int8 --dtype {self.dtype}: int8 is quantized from fp32; leave out --dtype."
        yield from mistakes_of_timm("pretrained", self.pretrained, self.network)
        yield from mistakes_of_weights(self.weights, self.network)
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
    def allowed_difference(self) -> float:
        """The largest difference of outputs that is allowed, as a share of the largest output."""
        return _TOLERANCES[self.graph_dtype] if self.tolerance is None else self.tolerance

    @property
    def batch(self) -> int | None:
        """The only size of a batch; None for any."""
        return self.batch_size or (None if self.spec.dynamic else 1)

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


def output_mistakes(folder: str, example: str) -> Iterator[str]:
    """Yield a message where `--output` is empty, or a folder that can't be replaced."""
    if not folder:
        yield f"--output '': give a folder, such as {example}."
    elif Path.cwd().is_relative_to(Path(folder).expanduser().resolve()):
        yield f"--output {folder!r}: the command runs inside this folder; give a new one, such as {example}."


def mistakes_here(device: str, *networks: str) -> list[str]:
    """Return a message for a device and for each network that isn't here; what always is needs no heavy import."""
    mistakes = list[str]()
    if device not in ("auto", "cpu"):
        from shvit_pl.deploy.measuring import chosen_device

        with collected(mistakes):
            chosen_device(device)
    for name in networks:
        if name not in NAMED:
            from shvit_pl.models.network_names import find_network

            with collected(mistakes):
                find_network(name)
    return mistakes


def is_named_detector(name: str) -> bool:
    """Return whether a name can only be that of a config, or of one of torchvision's detectors."""
    return name.startswith(TORCHVISION) or name.endswith((".yaml", ".yml"))


def mistakes_of_detector(name: str) -> Iterator[str]:
    """Yield a message where there is no such config, or no such detector of torchvision."""
    mistakes = list[str]()
    if not name.startswith(TORCHVISION):
        with collected(mistakes):
            find_config(name, flag="models")
    elif name.removeprefix(TORCHVISION) not in _OF_TORCHVISION:
        allowed = " and ".join(f"{TORCHVISION}{each}" for each in _OF_TORCHVISION)
        mistakes.append(f"models {name!r}: no detector that is measured here; there are {allowed}.")
    yield from mistakes


def mistakes_of_weights(weights: Weights | None, *networks: str) -> Iterator[str]:
    """Yield a message where weights of a run are asked for, and none of the networks may be one."""
    if weights and all(name in NAMED or is_named_detector(name) or _is_of_timm(name) for name in networks):
        yield f"--weights {weights}: only for a run or a checkpoint; leave it out with {', '.join(networks)}."


def _is_of_timm(network: str) -> bool:
    from shvit_pl.models.network_names import is_model_of_timm  # imports torch, which few flags need

    return is_model_of_timm(network)


def mistakes_of_timm(flag: str, value: object, network: str) -> Iterator[str]:
    """Yield a message where a flag that belongs to models of timm is given with another network."""
    if value and not _is_of_timm(network):
        yield f"--{flag}: only for models of timm (timm:NAME); a run or a repo has weights of its own."
