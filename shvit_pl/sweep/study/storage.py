"""Where a study lives: a journal file in the sweep folder, or a database, which may be away for a while."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import optuna
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, RDBStorage

from shvit_pl.errors import UserError, first_line
from shvit_pl.sweep.study.journal import open_journal

_PATIENCE = 300.0  # seconds that a database may be away
_ANSWER = 10  # seconds that a host may take to answer
_RACES = 5  # that are lost to processes which make the same tables
_Errors = type[Exception] | tuple[type[Exception], ...]
_Result = TypeVar("_Result")


def open_storage(folder: Path, storage: str | None) -> BaseStorage:
    """The journal file of a sweep folder, or a database.

    Args:
        folder: The sweep folder.
        storage: URL of a database, such as `postgresql://user@host/database`; None for the journal.

    Raises:
        UserError: for a database that can't be reached or is not fit for many workers.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    if storage is None:
        return open_journal(folder)
    if storage.startswith("sqlite"):
        raise UserError(
            f"--storage {storage}: SQLite hands one trial to two workers. Leave the flag out (a journal file in the "
            "sweep folder), or give postgresql://USER@HOST/DATABASE."
        )
    if storage.startswith("postgres:"):
        raise UserError(f"--storage {storage}: write postgresql{storage.removeprefix('postgres')}.")
    try:
        return _open_database(storage)
    except Exception as error:  # of SQLAlchemy, its drivers, or Optuna
        raise UserError(
            f"--storage {storage}: no such database can be reached ({first_line(error)[:160]}). Allowed is "
            "postgresql://USER@HOST:PORT/DATABASE, with the password in PGPASSWORD or ~/.pgpass."
        ) from error


def hide_password(storage: str | None) -> str | None:
    """A database's URL without its password, which this process and its children find in the environment from now on.

    So it is in no command, file or study.
    """
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        url = make_url(storage or "")
    except ArgumentError:  # no URL; opening it says so
        return storage
    if not url.password or not url.drivername.startswith("postgresql"):
        return storage
    os.environ["PGPASSWORD"] = str(url.password)
    return url._replace(password=None).render_as_string()  # `set` takes None for nothing


def patiently(action: Callable[[], _Result], away: _Errors = StorageInternalError) -> _Result:
    """Do it again for some minutes where it raises `away`, as it does while a database is away."""
    until = time.monotonic() + _PATIENCE
    while True:
        try:
            return action()
        except away as error:
            if time.monotonic() > until:
                raise UserError("--storage: away for too long; the same command goes on once it is back.") from error
            time.sleep(1)


def _open_database(url: str) -> RDBStorage:
    """A database with Optuna's tables; of several processes that find none and make them, all but one fail."""
    from sqlalchemy.exc import IntegrityError, ProgrammingError  # a journal does without

    settings = {"pool_pre_ping": True, "connect_args": {"connect_timeout": _ANSWER}}
    for _ in range(_RACES):
        try:
            return RDBStorage(url, engine_kwargs=settings)
        except (IntegrityError, ProgrammingError):
            time.sleep(0.2)
    return RDBStorage(url, engine_kwargs=settings)
