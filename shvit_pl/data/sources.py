"""Opening a dataset: the embedded digits, a local folder or file, or a dataset of the Hugging Face Hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from datasets import (
    Dataset,
    DatasetDict,
    IterableDatasetDict,
    get_dataset_config_names,
    load_dataset,
    load_dataset_builder,
    load_from_disk,
)
from datasets.exceptions import DatasetGenerationCastError, DatasetGenerationError, DatasetsError
from datasets.info import DatasetInfosDict

from shvit_pl.data.cache import check_cache
from shvit_pl.errors import UserError, did_you_mean, first_line
from shvit_pl.hub_access import hub_reachable, why_refused

EMBEDDED = "digits"
_DIGITS = Path(__file__).with_name("digits.parquet")
_FILE_BUILDERS = {".parquet": "parquet", ".arrow": "arrow"}
_FAILURES = (DatasetsError, OSError, ValueError, RuntimeError)  # what `datasets` raises for what it can't open


def is_on_hub(path: str) -> bool:
    """Whether a path that can be opened is that of a Hub dataset: nothing here is called so."""
    return path != EMBEDDED and not Path(path).expanduser().exists()


def open_stream(path: str, name: str | None = None, revision: str | None = None) -> IterableDatasetDict:
    """As `open_dataset`, but rows are read as they come, and nothing is stored."""
    return IterableDatasetDict(_open(path, name, revision, streaming=True))


def open_dataset(path: str, name: str | None = None, revision: str | None = None) -> DatasetDict:
    """Open all splits of a dataset, map-style.

    Args:
        path: `digits` (embedded), a folder of images (class folders, or `train/` and `validation/` with class folders),
            a folder or file of parquet or arrow, a folder written by `save_to_disk`, or a Hub id `user/dataset`.
        name: The configuration of a dataset that has several.
        revision: Branch, tag or commit of a Hub dataset.

    Raises:
        UserError: names `data.path`, its value, and what would be accepted.
    """
    return DatasetDict(_open(path, name, revision, streaming=False))


def _open(path: str, name: str | None, revision: str | None, streaming: bool) -> dict[str, Any]:
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
    if location.is_file():
        return _open_file(location, streaming)
    return _open_folder(location, name, streaming)


def _open_file(path: Path, streaming: bool) -> dict[str, Any]:
    builder = _FILE_BUILDERS.get(path.suffix)
    if builder is None:
        raise UserError(
            f"data.path {str(path)!r}: files may be {', '.join(_FILE_BUILDERS)}; for images give their folder."
        )
    try:
        return load_dataset(builder, data_files={"train": str(path)}, streaming=streaming)
    except _FAILURES as error:
        check_cache(error)
        raise UserError(f"data.path {str(path)!r}: it can't be opened as {builder} ({_reason(error)}).") from error


def _open_folder(path: Path, name: str | None, streaming: bool) -> dict[str, Any]:
    try:
        if (path / "state.json").exists() or (path / "dataset_dict.json").exists():
            return _saved(load_from_disk(str(path)), streaming)
        return _open_data_folder(str(path), name, streaming)
    except _FAILURES as error:
        check_cache(error)
        _check_configuration(str(path), name, None)
        raise UserError(
            f"data.path {str(path)!r}: this folder can't be opened as a dataset ({_reason(error)}). Give a folder of "
            "images sorted into class folders, of parquet files, or one written by save_to_disk."
        ) from error


def _open_data_folder(path: str, name: str | None, streaming: bool) -> dict[str, Any]:
    builder = load_dataset_builder(path, name)
    files = builder.config.data_files or {}
    declared = any(info.features for info in DatasetInfosDict.from_directory(path).values())
    if declared or builder.name not in _FILE_BUILDERS.values():
        return load_dataset(path, name, streaming=streaming)
    # each split by itself: together, they would all be read with the class names of the first
    return {
        str(split): load_dataset(builder.name, data_files=files[split], split="train", streaming=streaming)
        for split in files
    }


def _open_hub(path: str, name: str | None, revision: str | None, streaming: bool) -> dict[str, Any]:
    reachable = hub_reachable()
    try:
        return load_dataset(path, name, revision=revision, streaming=streaming)
    except _FAILURES as error:
        check_cache(error)
        if "scripts are no longer supported" in str(error):
            raise UserError(
                f"data.path {path!r}: it is a program ({path.split('/')[-1]}.py), not data, and is not run. Look on "
                "the Hub for a copy of this dataset in parquet."
            ) from error
        if reachable and (refusal := why_refused(path, revision)):
            raise UserError(refusal) from error
        _check_configuration(path, name, revision)
        if reachable:
            raise UserError(
                f"data.path {path!r}: this dataset of the Hub can't be opened ({_reason(error)})."
            ) from error
        raise UserError(
            f"data.path {path!r}: no such folder or file here, and no such dataset in the local cache; the Hub cannot "
            f"be reached ({_reason(error)}). Give a folder of images, a parquet file, or the id of a Hub dataset."
        ) from error


def _check_configuration(path: str, name: str | None, revision: str | None) -> None:
    """Raise `UserError` where a dataset has configurations of which one must be chosen."""
    try:
        known = get_dataset_config_names(path, revision=revision)
    except _FAILURES:
        return
    if name is None and len(known) > 1:
        raise UserError(f"data.name: {path!r} has several configurations ({', '.join(known)}). Choose one.")
    if name is not None and name not in known:
        hint = did_you_mean(name, known)
        raise UserError(f"data.name {name!r}: no such configuration of {path!r}{hint}; there are {', '.join(known)}.")


def _reason(error: Exception) -> str:
    """One line of what a library said, without its advice."""
    if isinstance(error, DatasetGenerationCastError):
        return " ".join(str(error).split("\n\n")[1].split())
    if isinstance(error, DatasetGenerationError) and isinstance(error.__cause__, Exception):
        error = error.__cause__
    if "corresponds to no data" in str(error):
        return "a split of it has no rows"
    return first_line(error)


def _saved(dataset: Dataset | DatasetDict, streaming: bool) -> dict[str, Any]:
    splits = dataset if isinstance(dataset, DatasetDict) else {"train": dataset}
    return {name: rows.to_iterable_dataset() if streaming else rows for name, rows in splits.items()}
