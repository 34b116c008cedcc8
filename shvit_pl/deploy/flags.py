"""Types, limits and checks of the flags that several commands share; read without torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

from jsonargparse.typing import restricted_number_type

from shvit_pl.errors import UserError, did_you_mean

Choice = TypeVar("Choice", bound=str)
Dtype = Literal["fp32", "bf16", "fp16"]
Weights = Literal["raw", "ema"]

AVERAGED = {None: None, "raw": False, "ema": True}  # value of --weights: take the moving average?
DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}  # torch's names
MOST_IMAGES = 2**20
MOST_PIXELS = 4096
MOST_THREADS = MOST_PIXELS  # jsonargparse has one type for equal limits
PAPER_BATCH = {"cuda": 256, "cpu": 16, "mps": 16}  # images, the default of --batch_size

if TYPE_CHECKING:  # mypy takes no type that a function makes
    Images = int
    Pixels = int
    Repeats = int
    Seconds = float
    Threads = int
else:
    Seconds = restricted_number_type("Seconds", float, [(">", 0), ("<", float("inf"))])
    Images = restricted_number_type("ImagesInt", int, [(">=", 1), ("<=", MOST_IMAGES)])
    Repeats = restricted_number_type("RepeatsInt", int, (">=", 5))  # quartiles of fewer measurements mean little
    Pixels = Threads = restricted_number_type("ThreadsInt", int, [(">=", 1), ("<=", MOST_PIXELS)])


@dataclass(frozen=True, kw_only=True)
class MeasuringOptions:
    """The options that all commands that measure have."""

    models: tuple[str, ...]
    """A design (s1), run folder, checkpoint, Hub repo (user/name) or timm:NAME."""
    device: str = "auto"
    """The device: auto, cpu, cuda, cuda:1 or mps."""
    threads: Threads | None = None
    """Threads of a CPU (default: torch's)."""
    output: str
    """Folder of the results; earlier ones are replaced."""

    def __post_init__(self) -> None:
        """Raise `UserError` for all mistakes, a line each."""
        if mistakes := list(self.mistakes()):
            raise UserError("\n".join(mistakes))

    def mistakes(self) -> Iterator[str]:
        """Give a message for each value that is impossible or contradicts another one."""
        try:
            output_folder(self.output)
        except UserError as error:
            yield str(error)


def at_least(flag: str, value: int | None, least: int, most: int | None = None) -> int | None:
    """Return the value of a flag; raises `UserError` where it is below `least` or above `most`."""
    if value is not None and (value < least or (most is not None and value > most)):
        upper = "" if most is None else f" to {most}"
        raise UserError(f"{flag} {value}: allowed are whole numbers from {least}{upper}.")
    return value


def one_of(flag: str, value: str, allowed: tuple[Choice, ...]) -> Choice:
    """Return the value of a flag; raises `UserError` where it is not among the allowed ones."""
    for choice in allowed:
        if choice == value:
            return choice
    raise UserError(f"{flag} {value!r}: allowed are {', '.join(allowed)}{did_you_mean(value, allowed)}.")


def given_folder(flag: str, value: str) -> str:
    """Return the value of a flag; raises `UserError` where it is empty."""
    if not value:
        raise UserError(f"{flag} '': give a folder, such as benchmark.")
    return value


def output_folder(value: str) -> str:
    """Return the value of `--output`; raises `UserError` where it is empty, or a folder that can't be replaced."""
    if Path.cwd().is_relative_to(Path(given_folder("--output", value)).expanduser().resolve()):
        raise UserError(f"--output {value!r}: the command runs inside this folder; give a new one, such as benchmark.")
    return value


def check_of_timm(flag: str, value: object, network: str) -> None:
    """Raise `UserError` where a flag that belongs to models of timm is given with another network."""
    if value and not network.startswith("timm:"):
        raise UserError(f"{flag}: it is for models of timm (timm:NAME); a run or a repo has weights of its own.")
