"""Why `datasets` could not open something, in one line."""

from __future__ import annotations

import errno
from pathlib import Path

from datasets import config, get_dataset_config_names
from datasets.exceptions import DatasetGenerationCastError, DatasetGenerationError, DatasetsError

from shvit_pl.errors import UserError, did_you_mean, first_line

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
FAILURES = (DatasetsError, OSError, ValueError, RuntimeError)  # what `datasets` raises for what it can't open


def reason(error: Exception) -> str:
    """One line of what a library said, without its advice."""
    if isinstance(error, DatasetGenerationCastError):
        return " ".join(str(error).split("\n\n")[1].split())
    if isinstance(error, DatasetGenerationError) and isinstance(error.__cause__, Exception):
        error = error.__cause__
    if "corresponds to no data" in str(error):
        return "a split of it has no rows"
    return first_line(error)


def check_configuration(path: str, name: str | None, revision: str | None) -> None:
    """Raise `UserError` where a dataset has configurations of which one must be chosen."""
    try:
        known = get_dataset_config_names(path, revision=revision)
    except FAILURES:
        return
    if name is None and len(known) > 1:
        raise UserError(f"data.name: {path!r} has several configurations ({', '.join(known)}). Choose one.")
    if name is not None and name not in known:
        hint = did_you_mean(name, known)
        raise UserError(f"data.name {name!r}: no such configuration of {path!r}{hint}; there are {', '.join(known)}.")


def check_cache(error: BaseException | None) -> None:
    """Raise `UserError` when what `datasets` ran into, or its cause, is that the cache can't be written."""
    while error is not None:
        if isinstance(error, OSError) and _of_cache(error):
            raise UserError(
                f"HF_HOME: the cache of datasets, {config.HF_DATASETS_CACHE}, can't be written "
                f"({error.strerror or error}). Make room or get access, or set HF_HOME to another folder."
            ) from error
        error = error.__cause__


def _of_cache(error: OSError) -> bool:
    if error.errno in _FULL or "Not enough disk space" in str(error):
        return True
    homes = Path(config.HF_DATASETS_CACHE), Path(config.HF_CACHE_HOME)
    named = Path(str(error.filename or ""))
    return any(named == home or home in named.parents or named in home.parents for home in homes)
