"""Why something can't run, in one short line."""

from __future__ import annotations

from textwrap import shorten

import torch

from shvit_pl.errors import one_line

_LONGEST = 200  # characters


def is_out_of_memory(error: Exception) -> bool:
    """Whether a GPU's memory, or that of the machine, was too small."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def reason(error: Exception) -> str:
    """What networks, compilers and devices raise, in one short line."""
    if is_out_of_memory(error):
        return "out of memory"
    return shorten(one_line(error), _LONGEST, placeholder=" ...")
