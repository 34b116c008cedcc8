"""Optuna's journal file, made to outlive writers that are killed in the middle of a line."""

from __future__ import annotations

import os
from pathlib import Path

from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

from shvit_pl.sweep.study.folder import JOURNAL

try:
    from fcntl import LOCK_EX, lockf
except ImportError:  # not on Windows
    lockf = None  # type: ignore[assignment]


class KernelLock:
    """A lock that the system releases when its holder dies; Optuna's own ones stay for half a minute then.

    Args:
        journal: The file that is locked for writing.
    """

    def __init__(self, journal: Path) -> None:
        self.journal = journal
        self._descriptor: int | None = None

    def acquire(self) -> bool:
        """Wait for the lock, and cut off what a writer left that died in the middle of a line."""
        self._descriptor = os.open(self.journal.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o666)
        try:
            lockf(self._descriptor, LOCK_EX)
            _cut_torn_line(self.journal)
        except BaseException:  # Ctrl-C too: whoever goes on after it must not hold up the others
            self.release()
            raise
        return True

    def release(self) -> None:
        """Let the next one write."""
        assert self._descriptor is not None
        os.close(self._descriptor)
        self._descriptor = None


def open_journal(folder: Path) -> JournalStorage:
    """The journal of a sweep folder, made if there is none."""
    path = folder / JOURNAL
    lock = KernelLock(path) if _can_lock(folder) else JournalFileOpenLock(str(path))
    return JournalStorage(JournalFileBackend(str(path), lock_obj=lock))  # type: ignore[arg-type]


def _can_lock(folder: Path) -> bool:
    """Whether this file system has locks; some network file systems have none."""
    if lockf is None:
        return False
    try:
        with (folder / JOURNAL).with_suffix(".lock").open("a") as file:
            lockf(file, LOCK_EX)
    except OSError:
        return False
    return True


def _cut_torn_line(journal: Path) -> None:
    """Remove a last line without its end: nobody was told that it is written."""
    with journal.open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        if size == 0:
            return
        file.seek(size - 1)
        if file.read(1) == b"\n":
            return
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)
