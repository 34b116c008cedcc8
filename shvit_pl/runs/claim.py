"""One process at a time writes into a folder."""

import os
from pathlib import Path

from lightning.pytorch.utilities import rank_zero_only

from shvit_pl.errors import UserError
from shvit_pl.runs.folder import CONFIG

try:
    from fcntl import LOCK_EX, LOCK_NB, lockf
except ImportError:  # not on Windows
    lockf = None  # type: ignore[assignment]

_claimed: dict[str, int] = {}


@rank_zero_only
def claim(folder: Path, name: str = CONFIG, flag: str = "ckpt_path") -> None:
    """Keep a folder for this process, until its end; raises `UserError`, with the flag, where another one has it.

    The lock is on the file `name` in it, and to be claimed again once that has been written. Workers do not inherit it.
    """
    key, file = str(folder.absolute()), folder / name
    if lockf is None or not file.is_file():
        return
    if key not in _claimed:
        _claimed[key] = os.open(file, os.O_RDWR)
    try:
        lockf(_claimed[key], LOCK_EX | LOCK_NB)
    except (BlockingIOError, PermissionError) as error:
        release(folder)
        raise UserError(
            f"{flag}: a run in {str(folder)!r} is still going on. Wait for its end, or stop it first."
        ) from error
    except OSError:  # a file system without locks
        return


@rank_zero_only
def release(folder: Path) -> None:
    """Let others write into the folder."""
    descriptor = _claimed.pop(str(folder.absolute()), None)
    if descriptor is not None:
        os.close(descriptor)
