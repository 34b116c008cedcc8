"""Opening a dataset: the embedded digits, a local folder or file, or a dataset of the Hugging Face Hub."""

import errno
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
from datasets.exceptions import DatasetGenerationCastError, DatasetGenerationError, DatasetsError
from huggingface_hub import constants

from shvit_pl.compat import at_cached_commit
from shvit_pl.data.config import EMBEDDED
from shvit_pl.errors import UserError, did_you_mean, first_line
from shvit_pl.hub_errors import go_offline_if_unreachable, hub_reachable, why_no_dataset, why_unreachable

_DIGITS = Path(__file__).with_name("digits.parquet")
_FILE_BUILDERS = {".parquet": "parquet", ".arrow": "arrow"}
_FAILURES = (DatasetsError, OSError, ValueError, RuntimeError)  # what `datasets` raises for what it can't open
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True)
class Opened:
    """An open dataset."""

    splits: dict[str, Any]
    """By name; datasets of rows, or streams of them."""
    commit: str | None = None
    """The version of a dataset of the Hub."""


def open_source(path: str, name: str | None = None, revision: str | None = None, streaming: bool = False) -> Opened:
    """Open all splits of a dataset.

    Args:
        path: `digits` (embedded), a folder of images (class folders, or `train/` and `validation/` with class folders),
            a folder or file of parquet or arrow, a folder written by `save_to_disk`, or a Hub id `user/dataset`.
        name: The configuration of a dataset that has several.
        revision: Branch, tag or commit of a Hub dataset; `main` by default.
        streaming: Read rows as they come, and store nothing.
    """
    if not path:
        raise UserError("data.path '': allowed are digits, a folder of images, a file of parquet, or a Hub dataset.")
    location = _DIGITS if path == EMBEDDED else Path(path).expanduser()
    if not location.exists():
        if path.startswith((".", "/", "~")) or path.count("/") > 1:
            raise UserError(f"data.path {path!r}: no such file or folder.")
        return _open_hub(path, name, revision, streaming)
    if revision is not None:
        raise UserError(f"data.revision {revision!r}: only datasets of the Hub have revisions, and {path!r} is local.")
    if name is not None and location.is_file():
        raise UserError(f"data.name {name!r}: {path!r} has no configurations; leave it out.")
    read = _open_file if location.is_file() else _open_folder
    return Opened(read(location, name, streaming))


def _open_file(path: Path, _: str | None, streaming: bool) -> dict[str, Any]:
    builder = _FILE_BUILDERS.get(path.suffix)
    if builder is None:
        raise UserError(
            f"data.path {str(path)!r}: files may be {', '.join(_FILE_BUILDERS)}; for images give their folder."
        )
    try:
        return datasets.load_dataset(builder, data_files={"train": str(path)}, streaming=streaming)
    except _FAILURES as error:
        _check_cache(error)
        raise UserError(f"data.path {str(path)!r}: it can't be opened as {builder} ({_reason(error)}).") from error


def _open_folder(folder: Path, name: str | None, streaming: bool) -> dict[str, Any]:
    path = str(folder)
    try:
        if (folder / "state.json").exists() or (folder / "dataset_dict.json").exists():
            saved = datasets.load_from_disk(path)
            splits = saved if isinstance(saved, datasets.DatasetDict) else {"train": saved}
            return {split: rows.to_iterable_dataset() if streaming else rows for split, rows in splits.items()}
        builder = datasets.load_dataset_builder(path, name)
        declared = any(info.features for info in datasets.info.DatasetInfosDict.from_directory(path).values())
        if declared or builder.name not in _FILE_BUILDERS.values():
            return datasets.load_dataset(path, name, streaming=streaming)
        # each split by itself: together, they would all be read with the class names of the first
        return {
            str(split): datasets.load_dataset(builder.name, data_files=files, split="train", streaming=streaming)
            for split, files in (builder.config.data_files or {}).items()
        }
    except _FAILURES as error:
        _check_cache(error)
        _check_configuration(path, name, None)
        raise UserError(
            f"data.path {path!r}: this folder can't be opened as a dataset ({_reason(error)}). Give a folder of "
            "images sorted into class folders, of parquet files, or one written by save_to_disk."
        ) from error


def _open_hub(path: str, name: str | None, revision: str | None, streaming: bool) -> Opened:
    """Open a dataset of the Hub, from there or from the local cache, in the requested version."""
    go_offline_if_unreachable()
    try:
        builder = _right_version(datasets.load_dataset_builder(path, name, revision=revision), path, revision)
        if streaming:
            return Opened(builder.as_streaming_dataset(), builder.hash)
        builder.download_and_prepare()
        return Opened(builder.as_dataset(), builder.hash)
    except UserError:
        raise
    except _FAILURES as error:
        _check_cache(error)
        raise _hub_refusal(error, path, name, revision) from error


def _right_version(builder: datasets.DatasetBuilder, path: str, revision: str | None) -> datasets.DatasetBuilder:
    """Return the builder of the requested version: without the Hub, `datasets` takes the newest it has."""
    branch = revision or constants.DEFAULT_REVISION
    ref = Path(constants.HF_HUB_CACHE, f"datasets--{path.replace('/', '--')}", "refs", branch)
    commit = ref.read_text().strip() if ref.is_file() else revision  # a branch is where the Hub last had it
    right = at_cached_commit(builder, path, commit)
    if right is not None:
        return right
    raise UserError(
        f"data.revision {branch!r}: the local cache of {path!r} does not hold it, only the commit {builder.hash}, "
        f"and {why_unreachable()}. Run it once where the Hub can be reached, or give that commit."
    )


# ---- why something can't be opened


def _reason(error: Exception) -> str:
    """Return one line of a library's message, without its advice."""
    if isinstance(error, DatasetGenerationCastError):
        return " ".join(str(error).split("\n\n")[1].split())
    if isinstance(error, DatasetGenerationError) and isinstance(error.__cause__, Exception):
        error = error.__cause__
    if "corresponds to no data" in str(error):
        return "one of its splits has no rows"
    return first_line(error)


def _check_configuration(path: str, name: str | None, revision: str | None) -> None:
    """Raise `UserError` where a dataset has configurations of which one must be chosen."""
    try:
        known = datasets.get_dataset_config_names(path, revision=revision)
    except _FAILURES:
        return
    if name is None and len(known) > 1:
        raise UserError(f"data.name: {path!r} has several configurations ({', '.join(known)}). Choose one.")
    if name is not None and name not in known:
        hint = did_you_mean(name, known)
        raise UserError(f"data.name {name!r}: no such configuration of {path!r}{hint}; there are {', '.join(known)}.")


def _check_cache(error: BaseException | None) -> None:
    """Raise `UserError` when what `datasets` ran into, or its cause, is that the cache can't be written."""
    homes = Path(datasets.config.HF_DATASETS_CACHE), Path(datasets.config.HF_CACHE_HOME)
    while error is not None:
        if isinstance(error, OSError):
            named = Path(str(error.filename or ""))
            concerned = any(named == home or home in named.parents or named in home.parents for home in homes)
            if concerned or error.errno in _DISK_FULL or "Not enough disk space" in str(error):
                raise UserError(
                    f"HF_HOME: the cache of datasets, {datasets.config.HF_DATASETS_CACHE}, can't be written "
                    f"({error.strerror or error}). Make room or get access, or set HF_HOME to another folder."
                ) from error
        error = error.__cause__


def _hub_refusal(error: Exception, path: str, name: str | None, revision: str | None) -> UserError:
    if "scripts are no longer supported" in str(error):
        return UserError(
            f"data.path {path!r}: it is a loading script ({path.split('/')[-1]}.py), and scripts are not run. Try the "
            "Hub's copy in parquet, --data.revision refs/convert/parquet, or give another dataset."
        )
    reason = why_no_dataset(error, path, revision)
    if reason is None or not hub_reachable():
        _check_configuration(path, name, revision)
    reason = reason or f"this dataset of the Hub can't be opened ({_reason(error)})."
    return UserError(f"data.path {path!r}: {reason}")
