"""How the studies that measure are told what to measure, checked before anything is opened."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from shvit_pl.deploy.flags import DTYPES, MOST_IMAGES, MOST_PIXELS, MOST_THREADS, at_least, one_of, output_folder

LEAST_REPEATS = 5
_REPEATS = 20


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
        batch_size=at_least("--batch_size", given.batch_size, 1, MOST_IMAGES),
        image_size=at_least("--image_size", given.image_size, 1, MOST_PIXELS),
        dtype=one_of("--dtype", given.dtype, tuple(DTYPES)),
        threads=at_least("--threads", given.threads, 1, MOST_THREADS),
        repeats=at_least("--repeats", given.repeats, LEAST_REPEATS) or _REPEATS,
    )
