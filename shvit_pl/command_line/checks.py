"""What every command that writes asks first."""

from __future__ import annotations

import os
from pathlib import Path

from shvit_pl.errors import UserError


def check_writable(flag: str, folder: str) -> None:
    """Raise `UserError` when nothing can be written into a flag's folder, or the folder can't be made."""
    if not folder:
        raise UserError(f"{flag} '': give a folder, such as runs.")
    there = Path(folder).absolute()
    while not there.exists():
        there = there.parent
    if not there.is_dir():
        raise UserError(f"{flag} {folder!r}: {there} is a file; give a folder.")
    if not os.access(there, os.W_OK | os.X_OK):
        raise UserError(f"{flag} {folder!r}: no access to write into {there}; give another folder.")
