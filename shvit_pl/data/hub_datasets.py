"""Datasets of the Hub, from there or from the local cache, in the version that was asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from datasets import DatasetBuilder, load_dataset_builder
from datasets.packaged_modules.cache.cache import Cache
from huggingface_hub import constants
from huggingface_hub.errors import LocalEntryNotFoundError
from huggingface_hub.file_download import repo_folder_name

from shvit_pl.data.refusals import FAILURES, check_cache, check_configuration, reason
from shvit_pl.errors import UserError, first_line
from shvit_pl.hub_errors import hub_reachable, use_cache_if_unreachable, why_no_dataset, why_unreachable


def open_hub(path: str, name: str | None, revision: str | None, streaming: bool) -> tuple[dict[str, Any], str]:
    """Open a dataset of the Hub.

    Args:
        path: Its id, `user/dataset`.
        name: Its configuration, where it has several.
        revision: Branch, tag or commit; `main` by default.
        streaming: Read rows as they come instead of storing them.

    Returns:
        Its splits, and the commit that they are of.

    Raises:
        UserError: where it is not there, closed, or not to be opened, with the next step.
    """
    use_cache_if_unreachable()
    try:
        builder = _of_revision(load_dataset_builder(path, name, revision=revision), path, revision)
        if streaming:
            return builder.as_streaming_dataset(), builder.hash
        builder.download_and_prepare()
        return builder.as_dataset(), builder.hash
    except UserError:
        raise
    except FAILURES as error:
        check_cache(error)
        raise _refusal(error, path, name, revision) from error


def _of_revision(builder: DatasetBuilder, path: str, revision: str | None) -> DatasetBuilder:
    """The builder for the version that was asked for.

    When the Hub does not answer, `datasets` takes whichever version is the newest in its cache, asked for or not.
    """
    wanted = _cached_commit(path, revision)
    if not isinstance(builder, Cache) or wanted in (None, builder.hash):
        return builder
    names = {"dataset_name": builder.dataset_name, "config_name": builder.config.name, "repo_id": path}
    other = Cache(**names, version=str(builder.config.version), hash=wanted)
    if Path(other.cache_dir).is_dir():
        return other
    raise UserError(
        f"data.revision {revision or constants.DEFAULT_REVISION!r}: the local cache of {path!r} does not hold it, but "
        f"the commit {builder.hash}, and {why_unreachable()}. Run it once where the Hub can be reached, or give that "
        "commit."
    )


def _cached_commit(path: str, revision: str | None) -> str | None:
    """The commit that a branch or tag was at when it was last asked for; a commit is its own."""
    folder = repo_folder_name(repo_id=path, repo_type="dataset")
    ref = Path(constants.HF_HUB_CACHE, folder, "refs", revision or constants.DEFAULT_REVISION)
    return ref.read_text().strip() if ref.is_file() else revision


def refuse_moved(path: str, before: str, now: str | None) -> None:
    """Raise `UserError` when a dataset of the Hub is at another commit than an interrupted run saw."""
    if now != before:
        raise UserError(
            f"data.path {path!r}: the interrupted run saw the commit {before}, and now it is {now}. Go on with "
            f"--data.revision {before} --allow_changes true, or start a new run."
        )


def _refusal(error: Exception, path: str, name: str | None, revision: str | None) -> UserError:
    if "scripts are no longer supported" in str(error):
        return UserError(
            f"data.path {path!r}: it is a loading script ({path.split('/')[-1]}.py), and scripts are not run any more. "
            "Try the Hub's own copy in parquet, --data.revision refs/convert/parquet, or look for another dataset."
        )
    if hub_reachable() and (refused := why_no_dataset(path, revision)):
        return UserError(f"data.path {path!r}: {refused}")
    if hub_reachable() and (silence := _silence(error)):
        return UserError(f"data.path {path!r}: the Hub does not answer as it should ({silence}). Try again later.")
    check_configuration(path, name, revision)
    if hub_reachable():
        return UserError(f"data.path {path!r}: this dataset of the Hub can't be opened ({reason(error)}).")
    return UserError(
        f"data.path {path!r}: no such folder or file here, no such dataset in the local cache, and "
        f"{why_unreachable()}. Give a folder of images or a parquet file, or run it once where the Hub can be reached."
    )


def _silence(error: BaseException | None) -> str | None:
    """Why a file could be had neither from the Hub nor from the cache, where that is what went wrong."""
    while error is not None:
        if isinstance(error, LocalEntryNotFoundError) and error.__cause__ is not None:
            return first_line(error.__cause__)
        error = error.__cause__ or error.__context__
    return None
