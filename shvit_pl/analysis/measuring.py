"""How the studies that measure are told what to measure, checked before anything is opened."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

from shvit_pl.deploy.benchmark.options import DTYPES, at_least, output_folder
from shvit_pl.errors import UserError, did_you_mean

Choice = TypeVar("Choice", bound=str)

LEAST_REPEATS = 5
_REPEATS = 20
_MOST_IMAGES = 2**20
_MOST_PIXELS = 4096
_MOST_THREADS = 4096


@dataclass(frozen=True)
class Measuring:
    """What is measured, and how.

    Attributes:
        models: As they were given.
        device: auto, cpu, cuda or cuda:1.
        batch_size: Images per batch; `None` stands for the paper's, 256 on a GPU and 16 on a CPU.
        image_size: Side in pixels; `None` stands for each network's own.
        dtype: fp32, bf16 or fp16.
        threads: Of a CPU; `None` leaves torch's.
        repeats: Passes, of which the median is taken.
        output: Folder of the results.
    """

    models: tuple[str, ...]
    output: str
    device: str = "auto"
    batch_size: int | None = None
    image_size: int | None = None
    dtype: str = "fp32"
    threads: int | None = None
    repeats: int = _REPEATS


def add_flags(parser: Any, output: str) -> None:
    """Add the flags of `Measuring` to a parser.

    Args:
        parser: One of `OneLineErrors`.
        output: Default folder of the results.
    """
    add = parser.add_argument
    add("--device", type=str, default="auto", help="auto, cpu, cuda or cuda:1")
    add("--batch_size", "--batch-size", type=int, help="images (default: 256 on a GPU, 16 on a CPU)")
    add("--image_size", "--image-size", type=int, help="pixels (default: each network's own)")
    add("--dtype", type=str, default="fp32", help="fp32, bf16 or fp16")
    add("--threads", type=int, help="of a CPU (default: torch's)")
    add("--repeats", type=int, help=f"passes, from {LEAST_REPEATS} (default: {_REPEATS})")
    add("--output", type=str, default=output, help="folder of the results; earlier ones are replaced")


def checked(given: Any) -> Measuring:
    """What a parsed command line asks for.

    Args:
        given: The values of the flags, and `models`.

    Raises:
        UserError: for an impossible value.
    """
    return Measuring(
        models=tuple(dict.fromkeys(given.models)),
        output=output_folder(given.output),
        device=given.device,
        batch_size=at_least("--batch_size", given.batch_size, 1, _MOST_IMAGES),
        image_size=at_least("--image_size", given.image_size, 1, _MOST_PIXELS),
        dtype=one_of("--dtype", given.dtype, DTYPES),
        threads=at_least("--threads", given.threads, 1, _MOST_THREADS),
        repeats=at_least("--repeats", given.repeats, LEAST_REPEATS) or _REPEATS,
    )


def one_of(flag: str, value: str, allowed: tuple[Choice, ...]) -> Choice:
    """The value of a flag; raises `UserError` where it is not among the allowed ones."""
    for choice in allowed:
        if choice == value:
            return choice
    raise UserError(f"{flag} {value!r}: allowed are {', '.join(allowed)}{did_you_mean(value, allowed)}.")
