"""What a benchmark was asked for, checked before anything is opened."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite
from typing import Any, Literal, TypeVar

from shvit_pl.deploy import flags
from shvit_pl.deploy.flags import at_least, one_of
from shvit_pl.errors import UserError

Protocol = Literal["interleaved", "official"]
T = TypeVar("T")

RUNTIMES = ("torch", "onnx")
MODES = ("official", "eager", "compiled", "reduce-overhead", "max-autotune", "optimized")
LEAST_BLOCKS = 5
_SECONDS = {"interleaved": 0.5, "official": 60.0}
_WARM_UP = 10.0  # seconds of the official protocol


@dataclass(frozen=True)
class Options:
    """A benchmark.

    Attributes:
        models: As they were given.
        device: auto, cpu, cuda, cuda:1 or mps.
        batch_sizes: Images per batch; `None` stands for the paper's, 256 on a GPU and 16 on a CPU.
        image_sizes: Sides in pixels; `None` stands for each network's own.
        modes: How torch runs the networks.
        dtypes: What they compute in.
        runtimes: torch or onnx.
        protocol: Interleaved blocks, or the official script's timing.
        train: Measure steps of training instead of inference.
        threads: Of a CPU; `None` leaves torch's.
        blocks: Measurements of each.
        seconds: Of one block, or of the official timing.
        warm_up: Seconds of the official warm-up.
        output: Folder of the results.
        compare: Folder of an earlier benchmark.
        averaged: Whether to take averaged weights; `None` takes those that a run watched.
    """

    models: tuple[str, ...]
    device: str = "auto"
    batch_sizes: tuple[int | None, ...] = (None,)
    image_sizes: tuple[int | None, ...] = (None,)
    modes: tuple[str, ...] = ("eager",)
    dtypes: tuple[str, ...] = ("fp32",)
    runtimes: tuple[str, ...] = ("torch",)
    protocol: Protocol = "interleaved"
    train: bool = False
    threads: int | None = None
    blocks: int = 7
    seconds: float = 0.5
    warm_up: float | None = None
    output: str = "benchmark"
    compare: str | None = None
    averaged: bool | None = None


def checked(given: Any) -> Options:
    """The options of a parsed command line.

    Raises:
        UserError: for a value that is impossible, or that contradicts another one.
    """
    _check_protocol(given)
    protocol: Protocol = given.protocol
    runtimes = _names("--runtime", given.runtime or "torch", RUNTIMES)
    dtypes = _names("--dtype", given.dtype or "fp32", tuple(flags.DTYPES))
    _check_onnx(given, runtimes, dtypes)
    return Options(
        models=tuple(dict.fromkeys(given.models)),
        device=given.device,
        batch_sizes=_numbers("--batch-size", given.batch_size, 1, flags.MOST_IMAGES),
        image_sizes=_numbers("--image-size", given.image_size, 1, flags.MOST_PIXELS),
        modes=_modes(given),
        dtypes=dtypes,
        runtimes=runtimes,
        protocol=protocol,
        train=given.train,
        threads=at_least("--threads", given.threads, 1, flags.MOST_THREADS),
        blocks=at_least("--blocks", given.blocks, LEAST_BLOCKS) or 7,
        seconds=_positive("--seconds", given.seconds) or _SECONDS[protocol],
        warm_up=_positive("--warm-up", given.warm_up) or (_WARM_UP if protocol == "official" else None),
        output=flags.output_folder(given.output),
        compare=None if given.compare is None else flags.given_folder("--compare", given.compare),
        averaged=flags.AVERAGED[given.weights],
    )


def _modes(given: Any) -> tuple[str, ...]:
    if given.protocol == "official":
        return ("official",)
    default = "eager" if given.train else "eager,optimized"
    asked = f"{given.mode or default}{',optimized' if given.optimize else ''}"
    return _names("--mode", asked, MODES)


def _check_protocol(given: Any) -> None:
    """The official protocol sets most things itself."""
    if given.protocol != "official":
        if given.warm_up is not None:
            raise UserError(
                "--warm-up: of --protocol official; otherwise everything is warmed up until it gets no faster."
            )
        return
    for flag in ("mode", "dtype", "runtime", "blocks", "train", "optimize"):
        if getattr(given, flag):
            raise UserError(
                f"--{flag} {getattr(given, flag)}: --protocol official sets it itself. Leave it out; to put the "
                "official network beside others in one measurement, give --mode official,eager,optimized instead."
            )
    if given.threads not in (None, 1):
        raise UserError(f"--threads {given.threads}: --protocol official has one thread; leave it out.")


def _check_onnx(given: Any, runtimes: tuple[str, ...], dtypes: tuple[str, ...]) -> None:
    if given.train and "onnx" in runtimes:
        raise UserError("--runtime onnx: it infers, and --train trains; leave one of the two out.")
    if given.train and "fp16" in dtypes:
        raise UserError("--dtype fp16: the recipe trains in fp32 or bf16; give one of these with --train.")
    if runtimes == ("onnx",) and "fp32" not in dtypes:
        raise UserError(f"--dtype {given.dtype}: with --runtime onnx, allowed is fp32.")
    if runtimes == ("onnx",) and given.mode:
        raise UserError(f"--mode {given.mode}: it is of --runtime torch; leave it out, or give --runtime torch,onnx.")


def _names(flag: str, text: str, allowed: tuple[str, ...]) -> tuple[str, ...]:
    return _listed(text, lambda word: one_of(flag, word, allowed))


def _numbers(flag: str, text: str | None, least: int, most: int) -> tuple[int | None, ...]:
    def number(word: str) -> int:
        if not word.isdecimal() or not least <= int(word) <= most:
            raise UserError(f"{flag} {word!r}: allowed are whole numbers from {least} to {most}, such as 32 or 1,32.")
        return int(word)

    return (None,) if text is None else _listed(text, number)


def _listed(text: str, read: Callable[[str], T]) -> tuple[T, ...]:
    """The entries of a list with commas, each once."""
    return tuple(dict.fromkeys(read(word.strip()) for word in text.split(",")))


def _positive(flag: str, value: float | None) -> float | None:
    if value is not None and not (isfinite(value) and value > 0):
        raise UserError(f"{flag} {value}: allowed are seconds above 0.")
    return value
