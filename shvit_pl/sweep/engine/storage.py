"""The storage of a study: a journal file in the sweep folder, or a database, which may be unavailable for a while."""

import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import optuna
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

from shvit_pl.errors import UserError, first_line

try:
    from fcntl import LOCK_EX, lockf
except ImportError:  # not on Windows
    lockf = None  # type: ignore[assignment]

JOURNAL = "study.journal"
_PATIENCE = 300.0  # seconds that a database may be unavailable
_CONNECT_TIMEOUT = 10  # seconds that a host may take to answer
_ATTEMPTS = 6  # tries to open a database
_Result = TypeVar("_Result")


def open_storage(folder: Path, storage: str | None) -> BaseStorage:
    """Open the journal of a sweep folder, or the database at the URL `storage`.

    Raises `UserError` for a database that can't be reached.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    if storage is None:
        return open_journal(folder)
    try:
        from sqlalchemy.exc import IntegrityError, ProgrammingError  # a journal does without

        settings = {"pool_pre_ping": True, "connect_args": {"connect_timeout": _CONNECT_TIMEOUT}}
        for _ in range(_ATTEMPTS - 1):  # if several processes create Optuna's tables, all but one fail at first
            with suppress(IntegrityError, ProgrammingError):
                return RDBStorage(storage, engine_kwargs=settings)
            time.sleep(0.2)
        return RDBStorage(storage, engine_kwargs=settings)
    except Exception as error:  # SQLAlchemy, its drivers and Optuna have no common class of errors
        raise UserError(
            f"--storage {storage}: the database can't be reached ({first_line(error)[:160]}). Give "
            "postgresql://USER@HOST:PORT/DATABASE, with the password in PGPASSWORD or ~/.pgpass."
        ) from error


def open_journal(folder: Path) -> JournalStorage:
    """Open the journal of a sweep folder, and create it where there is none."""
    path = folder / JOURNAL
    try:
        if lockf is None:
            raise OSError("Windows has other locks")
        with path.with_suffix(".lock").open("a") as file:
            lockf(file, LOCK_EX)
    except OSError:  # some network file systems have no such locks
        return JournalStorage(JournalFileBackend(str(path), lock_obj=JournalFileOpenLock(str(path))))
    return JournalStorage(JournalFileBackend(str(path), lock_obj=KernelLock(path)))  # type: ignore[arg-type]


class KernelLock:
    """A lock that the system releases when its holder dies; Optuna's own locks then stay for half a minute."""

    def __init__(self, journal: Path) -> None:
        self.journal = journal
        self._descriptor = -1

    def acquire(self) -> bool:
        """Wait for the lock, and cut off what a writer left that died in the middle of a line."""
        self._descriptor = os.open(self.journal.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o666)
        try:
            lockf(self._descriptor, LOCK_EX)
            with self.journal.open("r+b") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - 1))
                if file.read(1) not in (b"\n", b""):
                    file.seek(0)
                    file.truncate(file.read().rfind(b"\n") + 1)
        except BaseException:  # Ctrl-C too: a process that goes on after it must not hold up the others
            self.release()
            raise
        return True

    def release(self) -> None:
        """Let the next process write."""
        os.close(self._descriptor)


def hide_password(storage: str) -> str:
    """Return a database's URL without its password, which only the environment of this process and its runs holds."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        url = make_url(storage)
    except ArgumentError:  # no URL
        return storage
    if not url.password or not url.drivername.startswith("postgresql"):
        return storage
    os.environ["PGPASSWORD"] = str(url.password)
    return url._replace(password=None).render_as_string()  # `set` takes None for nothing


def retry_while_unavailable(action: Callable[[], _Result]) -> _Result:
    """Repeat an action for some minutes while the database is unavailable."""
    until = time.monotonic() + _PATIENCE
    while True:
        try:
            return action()
        except optuna.exceptions.StorageInternalError as error:
            if time.monotonic() > until:
                raise UserError("--storage: the database is unavailable; repeat the command later.") from error
            time.sleep(1)
