"""Why `datasets` could not open something, in one line."""

from __future__ import annotations

from datasets import get_dataset_config_names
from datasets.exceptions import DatasetGenerationCastError, DatasetGenerationError, DatasetsError

from shvit_pl.errors import UserError, did_you_mean, first_line

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
