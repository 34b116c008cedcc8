"""Opening a dataset: the embedded digits, a local folder or file, or a dataset of the Hugging Face Hub."""

from __future__ import annotations

from pathlib import Path

from datasets import Dataset, DatasetDict, load_dataset, load_from_disk
from datasets.exceptions import DatasetNotFoundError

from shvit_pl.errors import UserError
from shvit_pl.hub_access import hub_reachable

EMBEDDED = "digits"
_DIGITS = Path(__file__).with_name("digits.parquet")
_FILE_BUILDERS = {".parquet": "parquet", ".arrow": "arrow"}


def open_dataset(path: str, name: str | None = None, revision: str | None = None) -> DatasetDict:
    """Open all splits of a dataset, map-style.

    Args:
        path: `digits` (embedded), a folder of images (class folders, or `train/` and `validation/` with class folders),
            a folder or file of parquet or arrow, a folder written by `save_to_disk`, or a Hub id `user/dataset`.
        name: The configuration of a Hub dataset that has several.
        revision: Branch, tag or commit of a Hub dataset.

    Raises:
        UserError: names `data.path`, its value, and what would be accepted.
    """
    location = _DIGITS if path == EMBEDDED else Path(path).expanduser()
    if location.is_file():
        return _open_file(location)
    if location.is_dir():
        return _open_folder(location)
    if path.startswith((".", "/", "~")) or path.count("/") > 1:
        raise UserError(f"data.path {path!r}: no such file or folder.")
    return _open_hub(path, name, revision)


def _open_file(path: Path) -> DatasetDict:
    builder = _FILE_BUILDERS.get(path.suffix)
    if builder is None:
        raise UserError(
            f"data.path {str(path)!r}: files may be {', '.join(_FILE_BUILDERS)}; for images give their folder."
        )
    try:
        return _as_dict(load_dataset(builder, data_files={"train": str(path)}))
    except Exception as error:
        raise UserError(f"data.path {str(path)!r}: not a readable {builder} file ({_first_line(error)}).") from error


def _open_folder(path: Path) -> DatasetDict:
    try:
        if (path / "state.json").exists() or (path / "dataset_dict.json").exists():
            return _as_dict(load_from_disk(str(path)))
        return _as_dict(load_dataset(str(path)))
    except Exception as error:
        raise UserError(
            f"data.path {str(path)!r}: no dataset was found in this folder ({_first_line(error)}). Give a "
            "folder of images sorted into class folders, of parquet files, or one written by save_to_disk."
        ) from error


def _open_hub(path: str, name: str | None, revision: str | None) -> DatasetDict:
    reachable = hub_reachable()
    try:
        return _as_dict(load_dataset(path, name, revision=revision))
    except (DatasetNotFoundError, ConnectionError, OSError) as error:
        where = "on the Hub" if reachable else "in the local cache, and the Hub cannot be reached"
        raise UserError(
            f"data.path {path!r}: no such folder or file here, and no such dataset {where} "
            f"({_first_line(error)}). Give a folder of images, a parquet file, or the id of a Hub dataset."
        ) from error
    except ValueError as error:  # such as a configuration that must be chosen; the library's message lists them
        raise UserError(f"data.path {path!r}, data.name {name!r}: {' '.join(str(error).split())}") from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _as_dict(dataset: Dataset | DatasetDict) -> DatasetDict:
    return dataset if isinstance(dataset, DatasetDict) else DatasetDict(train=dataset)
