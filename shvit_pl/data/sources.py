"""Opening a dataset: the embedded digits, a local folder or file, or a dataset of the Hugging Face Hub."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets import Dataset, DatasetDict, load_dataset, load_dataset_builder, load_from_disk
from datasets.info import DatasetInfosDict

from shvit_pl.data.hub_datasets import open_hub
from shvit_pl.data.refusals import FAILURES, check_cache, check_configuration, reason
from shvit_pl.errors import UserError

EMBEDDED = "digits"
_DIGITS = Path(__file__).with_name("digits.parquet")
_FILE_BUILDERS = {".parquet": "parquet", ".arrow": "arrow"}


@dataclass(frozen=True)
class Opened:
    """A dataset that is open.

    Attributes:
        splits: By name; datasets of rows, or streams of them.
        commit: The version of a dataset of the Hub.
    """

    splits: dict[str, Any]
    commit: str | None = None


def open_source(path: str, name: str | None = None, revision: str | None = None, streaming: bool = False) -> Opened:
    """Open all splits of a dataset.

    Args:
        path: `digits` (embedded), a folder of images (class folders, or `train/` and `validation/` with class folders),
            a folder or file of parquet or arrow, a folder written by `save_to_disk`, or a Hub id `user/dataset`.
        name: The configuration of a dataset that has several.
        revision: Branch, tag or commit of a Hub dataset.
        streaming: Read rows as they come, and store nothing.

    Raises:
        UserError: names `data.path`, its value, and what would be accepted.
    """
    if not path:
        raise UserError("data.path '': allowed are digits, a folder of images, a file of parquet, or a Hub dataset.")
    location = _DIGITS if path == EMBEDDED else Path(path).expanduser()
    if not location.exists():
        if path.startswith((".", "/", "~")) or path.count("/") > 1:
            raise UserError(f"data.path {path!r}: no such file or folder.")
        return Opened(*open_hub(path, name, revision, streaming))
    if revision is not None:
        raise UserError(f"data.revision {revision!r}: only datasets of the Hub have revisions, and {path!r} is local.")
    if name is not None and location.is_file():
        raise UserError(f"data.name {name!r}: {path!r} has no configurations; leave it out.")
    if location.is_file():
        return Opened(_open_file(location, streaming))
    return Opened(_open_folder(location, name, streaming))


def _open_file(path: Path, streaming: bool) -> dict[str, Any]:
    builder = _FILE_BUILDERS.get(path.suffix)
    if builder is None:
        raise UserError(
            f"data.path {str(path)!r}: files may be {', '.join(_FILE_BUILDERS)}; for images give their folder."
        )
    try:
        return load_dataset(builder, data_files={"train": str(path)}, streaming=streaming)
    except FAILURES as error:
        check_cache(error)
        raise UserError(f"data.path {str(path)!r}: it can't be opened as {builder} ({reason(error)}).") from error


def _open_folder(path: Path, name: str | None, streaming: bool) -> dict[str, Any]:
    try:
        if (path / "state.json").exists() or (path / "dataset_dict.json").exists():
            return _saved(load_from_disk(str(path)), streaming)
        return _open_data_folder(str(path), name, streaming)
    except FAILURES as error:
        check_cache(error)
        check_configuration(str(path), name, None)
        raise UserError(
            f"data.path {str(path)!r}: this folder can't be opened as a dataset ({reason(error)}). Give a folder of "
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


def _saved(dataset: Dataset | DatasetDict, streaming: bool) -> dict[str, Any]:
    splits = dataset if isinstance(dataset, DatasetDict) else {"train": dataset}
    return {name: rows.to_iterable_dataset() if streaming else rows for name, rows in splits.items()}
