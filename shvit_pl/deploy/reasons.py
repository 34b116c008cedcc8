"""Why something can't run, in one short line."""

from __future__ import annotations

from textwrap import shorten

import torch

from shvit_pl.errors import one_line

_LONGEST = 200  # characters


def reason(error: Exception) -> str:
    """What networks, compilers and devices raise, in one short line."""
    if isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error):
        return "out of memory"
    return shorten(one_line(error), _LONGEST, placeholder=" ...")
