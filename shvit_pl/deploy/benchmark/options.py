"""The options of a benchmark, checked before anything is opened."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from shvit_pl.deploy.flags import AVERAGED, Dtype, Images, MeasuringOptions, Pixels, Repeats, Seconds, Weights

Mode = Literal["official", "eager", "compiled", "reduce-overhead", "max-autotune", "optimized"]
Protocol = Literal["interleaved", "official"]
Runtime = Literal["torch", "onnx"]

_SET_BY_OFFICIAL = ("mode", "dtype", "runtime", "blocks", "train", "optimize")


@dataclass(frozen=True, kw_only=True)
class BenchmarkOptions(MeasuringOptions):
    """The flags of `shvit-pl benchmark`, and the values that they stand for."""

    batch_size: tuple[Images, ...] | None = None
    """Images per batch, such as 1,32 (default: 256 on a GPU, 16 on a CPU)."""
    image_size: tuple[Pixels, ...] | None = None
    """Side in pixels, such as 224,512 (default: each network's own)."""
    mode: tuple[Mode, ...] | None = None
    """Ways to run torch (default: eager,optimized; with --train eager)."""
    optimize: bool = False
    """Add optimized to the modes."""
    dtype: tuple[Dtype, ...] | None = None
    """Number types (default: fp32; official has its own)."""
    runtime: tuple[Runtime, ...] | None = None
    """Programs that compute (default: torch)."""
    train: bool = False
    """Measure training steps: mixing, forward, backward, clipping, AdamW, moving average."""
    weights: Weights | None = None
    """Weights of checkpoints (default: those that their run monitored)."""
    output: str = "benchmark"
    """Folder of the results; an earlier benchmark under the same conditions is replaced."""
    compare: str | None = None
    """Folder of an earlier benchmark under the same conditions, to compare with."""
    protocol: Protocol = "interleaved"
    """How to time; official does all that the official speed_test.py does, with 1 thread on a CPU."""
    blocks: Repeats | None = None
    """Measurements of each network, from 5 (default: 7)."""
    seconds: Seconds | None = None
    """Seconds of one block (default: 0.5), or of the official timing (default: 60)."""
    warm_up: Seconds | None = None
    """Seconds of the official warm-up (default: 10)."""

    def mistakes(self) -> Iterator[str]:
        """Give a message for each value that is impossible or contradicts another one."""
        yield from super().mistakes()
        if self.compare == "":
            yield "--compare '': give a folder, such as benchmark."
        yield from self._protocol_mistakes()
        if self.train and "onnx" in self.runtimes:
            yield "--runtime onnx: it has no training steps; leave out --train or --runtime onnx."
        if self.train and "fp16" in self.dtypes:
            yield "--dtype fp16: the recipe trains in fp32 or bf16; give one of these with --train."
        if self.runtimes == ("onnx",) and "fp32" not in self.dtypes:
            yield f"--dtype {','.join(self.dtypes)}: with --runtime onnx, allowed is fp32."
        if self.runtimes == ("onnx",) and self.mode:
            yield f"--mode {','.join(self.mode)}: it needs --runtime torch; leave it out, or give --runtime torch,onnx."

    def _protocol_mistakes(self) -> Iterator[str]:
        if self.protocol != "official":
            if self.warm_up is not None:
                yield (
                    "--warm_up: only with --protocol official; otherwise the warm-up runs until timings stop improving."
                )
            return
        for flag in _SET_BY_OFFICIAL:
            if value := getattr(self, flag):
                yield (
                    f"--{flag} {_as_text(value)}: --protocol official sets it itself. Leave it out; to measure the "
                    "official network beside others, give --mode official,eager,optimized instead."
                )
        if self.threads not in (None, 1):
            yield f"--threads {self.threads}: --protocol official has one thread; leave it out."

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
    def runtimes(self) -> tuple[str, ...]:
        """The runtimes to measure."""
        return self.runtime or ("torch",)

    @property
    def rounds(self) -> int:
        """Measurements of each cell; the official protocol makes one."""
        return 1 if self.protocol == "official" else self.blocks or 7

    @property
    def block_seconds(self) -> float:
        """Seconds of one measurement."""
        return self.seconds or (60.0 if self.protocol == "official" else 0.5)

    @property
    def warm_up_seconds(self) -> float | None:
        """Seconds of the official warm-up; None where the warm-up runs until timings stop improving."""
        return (self.warm_up or 10.0) if self.protocol == "official" else None

    @property
    def averaged(self) -> bool | None:
        """True for averaged weights, False for raw ones; None for those that a run monitored."""
        return AVERAGED[self.weights]


def _as_text(value: object) -> str:
    return ",".join(value) if isinstance(value, tuple) else str(value)
