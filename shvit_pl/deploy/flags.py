"""What the flags of several commands may be; read without torch."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from shvit_pl.errors import UserError, did_you_mean

Choice = TypeVar("Choice", bound=str)

AVERAGED = {None: None, "raw": False, "ema": True}  # of --weights: whether they are a moving average
DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}  # and what torch calls them
MOST_IMAGES = 2**20
MOST_PIXELS = 4096
MOST_THREADS = 4096
PAPER_BATCH = {"cuda": 256, "cpu": 16, "mps": 16}  # images, where --batch_size says none


def at_least(flag: str, value: int | None, least: int, most: int | None = None) -> int | None:
    """The value of a flag; raises `UserError` where it is below `least` or above `most`."""
    if value is not None and (value < least or (most is not None and value > most)):
        upper = "" if most is None else f" to {most}"
        raise UserError(f"{flag} {value}: allowed are whole numbers from {least}{upper}.")
    return value


def one_of(flag: str, value: str, allowed: tuple[Choice, ...]) -> Choice:
    """The value of a flag; raises `UserError` where it is not among the allowed ones."""
    for choice in allowed:
        if choice == value:
            return choice
    raise UserError(f"{flag} {value!r}: allowed are {', '.join(allowed)}{did_you_mean(value, allowed)}.")


def given_folder(flag: str, value: str) -> str:
    """The value of a flag; raises `UserError` where it is empty."""
    if not value:
        raise UserError(f"{flag} '': give a folder, such as benchmark.")
    return value


def output_folder(value: str) -> str:
    """The value of `--output`; raises `UserError` where it is empty, or a folder that can't be replaced."""
    if Path.cwd().is_relative_to(Path(given_folder("--output", value)).expanduser().resolve()):
        raise UserError(f"--output {value!r}: the command runs inside this folder; give a new one, such as benchmark.")
    return value


def check_of_timm(flag: str, value: object, network: str) -> None:
    """Raise `UserError` where a flag that belongs to models of timm is given with another network."""
    if value and not network.startswith("timm:"):
        raise UserError(f"{flag}: it is for models of timm (timm:NAME); a run or a repo has weights of its own.")
