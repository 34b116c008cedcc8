"""The folder of `--output`: its own earlier results may be replaced, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from shvit_pl.command_line.checks import check_writable
from shvit_pl.errors import UserError


def holds_results(folder: Path, are_ours: Callable[[Path], bool]) -> bool:
    """Whether there are earlier results.

    Args:
        folder: It may be missing or empty.
        are_ours: Whether what is in a folder are results of the same command.

    Raises:
        UserError: where nothing can be written, and where other files are in it.
    """
    check_writable("--output", str(folder))
    if not folder.exists() or not any(folder.iterdir()):
        return False
    if not are_ours(folder):
        raise UserError(f"--output {str(folder)!r}: it holds other files; give a new folder.")
    return True
