"""One process at a time writes into a run folder."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from lightning.pytorch.utilities import rank_zero_only

from shvit_pl.errors import UserError

try:
    from fcntl import LOCK_EX, LOCK_NB, flock
except ImportError:  # not on Windows
    flock = None  # type: ignore[assignment]

_claimed: dict[str, int] = {}


@rank_zero_only
def claim(folder: Path) -> None:
    """Keep a run folder for this process, until it ends; raises `UserError` where another one has it."""
    key = str(folder.absolute())
    if flock is None or key in _claimed:
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(NotImplementedError):
            flock(descriptor, LOCK_EX | LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise UserError(
            f"ckpt_path: the run in {str(folder)!r} is still going on. Wait for its end, or stop it first."
        ) from error
    except OSError:  # a file system without locks
        pass
    _claimed[key] = descriptor


@rank_zero_only
def release(folder: Path) -> None:
    """Let others write into the folder."""
    descriptor = _claimed.pop(str(folder.absolute()), None)
    if descriptor is not None:
        os.close(descriptor)
