"""Where `datasets` keeps what it has prepared: a full or closed disk there is not the fault of the data."""

from __future__ import annotations

import errno
from pathlib import Path

import datasets

from shvit_pl.errors import UserError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def check_cache(error: BaseException | None) -> None:
    """Raise `UserError` when what `datasets` ran into, or its cause, is that the cache can't be written."""
    while error is not None:
        if isinstance(error, OSError) and _of_cache(error):
            raise UserError(
                f"HF_HOME: the cache of datasets, {datasets.config.HF_DATASETS_CACHE}, can't be written "
                f"({error.strerror or error}). Make room or get access, or set HF_HOME to another folder."
            ) from error
        error = error.__cause__


def _of_cache(error: OSError) -> bool:
    if error.errno in _FULL or "Not enough disk space" in str(error):
        return True
    homes = Path(datasets.config.HF_DATASETS_CACHE), Path(datasets.config.HF_CACHE_HOME)
    named = Path(str(error.filename or ""))
    return any(named == home or home in named.parents or named in home.parents for home in homes)
