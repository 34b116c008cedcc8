"""Why `datasets` could not open something, or the Hub does not give it, in one line."""

from __future__ import annotations

import errno
from pathlib import Path

from datasets import config, get_dataset_config_names
from datasets.exceptions import DatasetGenerationCastError, DatasetGenerationError, DatasetsError
from huggingface_hub import HfApi, constants, errors, get_token

from shvit_pl.errors import UserError, did_you_mean, first_line

_ANSWER_S = 3.0
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


def why_refused(dataset: str, revision: str | None) -> str | None:
    """Why the Hub does not give a dataset, and what to do about it; None when it would give it, or can't be asked."""
    try:
        if HfApi().dataset_info(dataset, revision=revision, timeout=_ANSWER_S).gated:
            HfApi().auth_check(dataset, repo_type="dataset")
    except Exception as error:  # also what keeps the question from being answered: the client's own error says more
        return _refusal(error, dataset, revision)
    return None


def _refusal(error: Exception, dataset: str, revision: str | None) -> str | None:
    page, tokens = f"{constants.ENDPOINT}/datasets/{dataset}", f"{constants.ENDPOINT}/settings/tokens"
    if isinstance(error, errors.GatedRepoError):
        whose = "the account of this token has no access" if get_token() else "there is no token"
        return (
            f"data.path {dataset!r}: a gated dataset, and {whose}. Ask for access at {page}, and set HF_TOKEN to a "
            f"token of the account that has it ({tokens})."
        )
    if isinstance(error, errors.RepositoryNotFoundError | errors.HFValidationError):
        return (
            f"data.path {dataset!r}: no such folder or file here, and no such dataset on the Hub. Give a folder of "
            "images, a parquet file, or the id of a Hub dataset; a private one needs HF_TOKEN."
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return f"data.revision {revision!r}: no such branch, tag or commit; they are listed at {page}."
    if isinstance(error, errors.HfHubHTTPError) and error.response.status_code == 401:
        return f"data.path {dataset!r}: the Hub does not know the token of HF_TOKEN. Give another ({tokens}), or none."
    return None


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
