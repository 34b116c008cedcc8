"""Files and folders that are there whole, or as they were before."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary name in the same folder, for a file or a folder, which takes its place when the block ends well.

    If the block raises, what it wrote is deleted, and what was at `path` stays.
    """
    partial = path.with_name(f".{os.getpid()}_{path.name}")
    try:
        yield partial
        if path.is_dir():
            _put_aside(path)
        partial.replace(path)
    finally:
        remove(partial)


def remove(path: Path) -> None:
    """Delete a file or a folder, if it is there."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _put_aside(folder: Path) -> None:
    """A folder can't be replaced at once: it is renamed, then deleted."""
    aside = folder.with_name(f".{os.getpid()}_old_{folder.name}")
    folder.replace(aside)
    shutil.rmtree(aside)
