"""Opening a dataset: the embedded digits, a local folder or file, or a dataset of the Hugging Face Hub."""

import errno
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from glob import escape
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import datasets
import pandas as pd
from datasets.exceptions import DatasetGenerationCastError, DatasetGenerationError, DatasetsError
from huggingface_hub import constants, metadata_load

from shvit_pl.compat import at_cached_commit
from shvit_pl.data import tables
from shvit_pl.data.config import EMBEDDED, SplitConfig
from shvit_pl.data.folders import (
    ARRAYS,
    SPLITS,
    FolderImages,
    account,
    holds_image,
    no_image,
    read_images,
    readable_endings,
    table_files,
)
from shvit_pl.errors import UserError, did_you_mean, first_line, first_names
from shvit_pl.files import as_text, from_text
from shvit_pl.hub_errors import go_offline_if_unreachable, hub_reachable, why_no_dataset, why_unreachable

_DIGITS = Path(__file__).with_name("digits.parquet")
_FILE_BUILDERS = {".parquet": "parquet", ".arrow": "arrow"}
_CSV = (".csv", ".tsv")
_TABLES = (*_CSV, ".jsonl", ".json")
NAMES_OF_PATHS = ("file_name", "filename", "file", "image", "image_path", "path", "filepath")  # columns, in this order
_SAMPLE = 20  # rows, by which columns of paths are known
_TEXTS = ("string", "large_string", "string_view")
_FAILURES = (DatasetsError, OSError, ValueError, RuntimeError)  # what `datasets` raises for what it can't open
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

_ALLOWED = f"{EMBEDDED} (embedded), a folder of images, a file of parquet, or a dataset of the Hub (USER/NAME)"

Rows = TypeVar("Rows", datasets.Dataset, datasets.IterableDataset)


@dataclass(frozen=True)
class Opened:
    """An open dataset."""

    splits: dict[str, Any]
    """By name; datasets of rows, or streams of them."""
    commit: str | None = None
    """The version of a dataset of the Hub."""
    files: str = ""
    """What became of the files of a folder, in a line."""
    found: bool = False
    """True if the rows are files that were found, and so are there."""


def open_source(config: SplitConfig, streaming: bool = False, sort: bool = True) -> Opened:
    """Open all splits of the dataset `config.path`.

    It is `digits` (embedded), a folder of images (class folders, or `train/` and `validation/` with class folders), a
    folder or file of parquet or arrow, a table (CSV, TSV, JSON) of paths and labels, a folder written by
    `save_to_disk`, or a Hub id `user/dataset`. With `streaming`, rows are read as they come, and nothing is stored.
    Without `sort`, all images of a folder are in one split, and have no classes.
    """
    path, name, revision = config.path, config.name, config.revision
    if not path:
        raise UserError(f"data.path '': allowed are {_ALLOWED}.")
    location = _DIGITS if path == EMBEDDED else Path(path).expanduser()
    if not location.exists():
        if path.startswith((".", "/", "~")) or path.count("/") > 1:
            raise UserError(f"data.path {path!r}: no such file or folder. Give {_ALLOWED}.")
        tables.check_belongs(config, False, False)
        return _open_hub(path, name, revision, streaming)
    if revision is not None:
        raise UserError(f"data.revision {revision!r}: only datasets of the Hub have revisions, and {path!r} is local.")
    if name is not None and location.is_file():
        raise UserError(f"data.name {name!r}: {path!r} has no configurations; leave it out.")
    is_array = arrays_too(config) and location.suffix == ARRAYS
    if location.is_file() and not sort and (is_array or _is_image(location)):
        kind = datasets.Features(image=datasets.Image(decode=False))
        return Opened(
            {"train": datasets.Dataset.from_dict({"image": [as_text(str(location.absolute()))]}, features=kind)}
        )
    if location.is_file():
        note = f"the embedded digits; for the folder of this name give --data.path ./{path}"
        rows = _open_files([location], streaming, config, sort)
        if path == EMBEDDED:
            return Opened({"train": rows}, files=note if Path(path).exists() else "")
        return Opened(_by_split_column(rows), files=_counted(rows))
    try:
        return _open_folder(location, config, streaming, sort)
    except UserError:
        raise
    except _FAILURES as error:
        check_cache(error)
        _check_configuration(path, name, None)
        raise UserError(
            f"data.path {path!r}: this folder can't be opened as a dataset ({_reason(error)}). {_folders(sort)}"
        ) from error


def _folders(sort: bool) -> str:
    kind = "images sorted into class folders, of" if sort else "images, a single image, a folder of"
    return f"Give a folder of {kind} parquet files, or one written by save_to_disk."


def arrays_too(config: SplitConfig) -> bool:
    """Return whether files of numpy may be images."""
    return getattr(config, "channels", "rgb") != "rgb"


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in readable_endings() or (not path.suffix and holds_image(str(path)))


def _open_files(paths: Sequence[Path], streaming: bool, config: SplitConfig, sort: bool = True) -> Any:
    """Open the files of a split, which have the same ending."""
    first, ending = paths[0], paths[0].suffix.lower()
    kind = "a table" if ending in _TABLES else _FILE_BUILDERS.get(ending)
    if kind is None:
        allowed = ", ".join((*_FILE_BUILDERS, *_TABLES))
        images = "for images give their folder"
        if not sort:
            images = f"or a single image: {', '.join(sorted(readable_endings()))}"
        raise UserError(f"data.path {str(first)!r}: files may be {allowed}; {images}.")
    root = tables.root_of(config)
    try:
        if ending in _TABLES:
            read = [_read_table(path, config) for path in paths]
            folders = [root or path.parent for path in paths]
            columns = _path_columns(read[0], folders[0], config.image_column)
            tables.check_belongs(config, ending in _CSV, bool(columns))
            parts = zip(paths, read, folders, strict=True)
            rows = datasets.concatenate_datasets([_of_table(*part, columns) for part in parts])
            return rows.to_iterable_dataset() if streaming else rows
        # each split by itself: together, they would all be read with the class names of the first
        files = {"train": [escape(str(path)) for path in paths]}
        rows = datasets.load_dataset(kind, data_files=files, split="train", streaming=streaming)
        columns = _path_columns(rows, root or first.parent, config.image_column)
        tables.check_belongs(config, False, bool(columns))
        return _as_images(rows, root or first.parent, columns)
    except UserError:
        raise
    except (*_FAILURES, pd.errors.ParserError) as error:
        check_cache(error)
        advice = " Save it in UTF-8, as CSV with a header or as JSON records." if ending in _TABLES else ""
        reason = f"it can't be opened as {kind} ({_reason(error)}).{advice}"
        raise UserError(f"data.path {str(first)!r}: {reason}") from error


def _by_split_column(rows: Any) -> dict[str, Any]:
    """Divide stored rows by their column `split`, if there is one and it names splits."""
    names = rows["split"][:] if isinstance(rows, datasets.Dataset) and "split" in rows.features else []
    splits = [SPLITS.get(str(name).lower()) for name in names]
    if not splits or None in splits:
        return {"train": rows}
    return {
        split: rows.select([index for index, own in enumerate(splits) if own == split])
        for split in dict.fromkeys(SPLITS.values())
        if split in splits
    }


def _counted(rows: Any) -> str:
    return f"{len(rows)} row{'s' * (len(rows) != 1)} used" if isinstance(rows, datasets.Dataset) else ""


def _of_table(path: Path, rows: datasets.Dataset, base: Path, columns: Sequence[str]) -> datasets.Dataset:
    """Make a table's columns of paths images; raises `UserError` for addresses among them."""
    for column in columns:
        tables.check_addresses(rows[column][:], column, path)
    return _as_images(rows, base, columns)


def _read_table(path: Path, config: SplitConfig) -> datasets.Dataset:
    """Read a table; in CSV, all is text but columns of whole numbers, so that neither '007' nor 'NA' is lost."""
    if (ending := path.suffix.lower()) in (".jsonl", ".json"):
        frame = pd.read_json(path, lines=ending == ".jsonl", dtype=False, convert_dates=False)
    else:
        with path.open(encoding="utf-8-sig") as file:
            header = file.readline()
        separator = tables.separator(path, header, config)
        frame = pd.read_csv(
            path, sep=separator, dtype=str, keep_default_na=False, encoding="utf-8-sig", skipinitialspace=True
        )
        _check_header(path, list(frame))
        for column in frame:
            if frame[column].str.fullmatch(r"0|-?[1-9]\d{0,17}").all():
                frame[column] = frame[column].astype(int)
        frame = frame.replace({"": None})
    if frame.empty:
        raise ValueError("it has no rows")
    return datasets.Dataset.from_pandas(frame, preserve_index=False)


def _check_header(path: Path, columns: Sequence[str]) -> None:
    """Raise `UserError` where the names of a table's columns are a row: one of them is a file of an image."""
    if {column.lower() for column in columns}.isdisjoint((*NAMES_OF_PATHS, "label")) and any(
        _looks_like_image(column) or _leads_to_image(column, path.parent) for column in columns
    ):
        raise UserError(
            f"data.path {str(path)!r}: its first line ({first_names(columns)}) is a row, and not the names of the "
            "columns. Put a header line before it, such as path,label."
        )


def _with_paths(rows: Rows, base: Path, wanted: str | None) -> Rows:
    return _as_images(rows, base, _path_columns(rows, base, wanted))


def _path_columns(rows: Any, base: Path, wanted: str | None) -> list[str]:
    """Return the text columns of paths: `wanted`, or if one has a usual name, all that lead to images."""
    features = rows.features or {}  # of a stream, they may be unknown
    texts = [name for name, kind in features.items() if getattr(kind, "dtype", "") in _TEXTS]
    usual = [name for name in NAMES_OF_PATHS if name in texts]
    if wanted in texts:
        return [str(wanted)]
    if not usual or any(isinstance(kind, datasets.Image) for kind in features.values()):
        return []
    first = list(islice(rows.select_columns(texts), _SAMPLE))
    leading = [name for name in texts if any(_leads_to_image(row[name], base) for row in first)]
    looking = [name for name in usual if any(_looks_like_image(row[name]) for row in first)]
    return leading or looking or usual[:1]


def _looks_like_image(path: str | None) -> bool:
    return os.path.splitext(path or "")[1].lower() in readable_endings()


def _leads_to_image(path: str | None, base: Path) -> bool:
    with suppress(OSError, RuntimeError, ValueError):  # any text: too long for a path, or of nobody's home
        place = path and from_text(_absolute(path, base) or "")
        return bool(place and place.is_file() and _is_image(place))
    return False


def _as_images(rows: Rows, base: Path, columns: Sequence[str]) -> Rows:
    """Make columns of paths images; relative paths begin at `base`."""
    if not columns:
        return rows
    image = datasets.Image(decode=False)
    if isinstance(rows, datasets.IterableDataset):
        changed = datasets.Features({**(rows.features or {}), **dict.fromkeys(columns, image)})
        return rows.map(
            lambda row: {name: {"path": _absolute(row[name], base), "bytes": None} for name in columns},
            features=changed,
        )
    images: datasets.Dataset = rows
    for name in columns:
        paths = [_absolute(path, base) for path in rows[name][:]]
        images = images.remove_columns(name).add_column(name, paths).cast_column(name, image)
    return images.select_columns(rows.column_names)


def _absolute(path: str | None, base: Path) -> str | None:
    """Return where a path leads, also one written on Windows."""
    path = (path or "").removeprefix("file://")
    place = from_text(str(base.absolute() / Path(path).expanduser()))
    if "\\" in path and not place.exists():
        place = base.absolute() / path.replace("\\", "/")
    return as_text(str(place)) if path else None


def _open_folder(folder: Path, config: SplitConfig, streaming: bool, sort: bool) -> Opened:
    splits: Mapping[str, Any]
    if (folder / "state.json").exists() or (folder / "dataset_dict.json").exists():
        saved = datasets.load_from_disk(str(folder))
        splits = saved if isinstance(saved, datasets.DatasetDict) else {"train": saved}
        tables.check_belongs(config, False, False)
        splits = {split: _with_paths(rows, folder, config.image_column) for split, rows in splits.items()}
        return Opened(_streamed(splits) if streaming else splits)
    card = (metadata_load(folder / "README.md") or {}) if (folder / "README.md").is_file() else {}
    if "configs" not in card and config.name is None and (found := read_images(folder, sort, arrays_too(config))):
        of_tables, note = _read_metadata(folder, config, streaming, found) if sort else ({}, "")
        if of_tables:
            return Opened(of_tables, files=note)
        tables.check_belongs(config, False, False)
        return Opened(_streamed(found.splits) if streaming else found.splits, files=found.files + note, found=True)
    by_split, files = table_files(folder)
    if by_split and config.name is None and card.keys().isdisjoint(("configs", "dataset_info")):
        opened = {split: _open_files(paths, streaming, config) for split, paths in by_split.items()}
        return Opened(opened, files=files)
    path = str(folder)
    if "configs" not in card and config.name is None and (reason := no_image(folder)):
        raise UserError(f"data.path {path!r}: {reason}. {_folders(sort)}")
    if escape(path) != path:
        raise UserError(f"data.path {path!r}: datasets would read *, ? and [ in it as a pattern; rename the folder.")
    return Opened(datasets.load_dataset(path, config.name, streaming=streaming))


def _read_metadata(
    folder: Path, config: SplitConfig, streaming: bool, found: FolderImages
) -> tuple[dict[str, Any], str]:
    """Read the tables beside images where they are to give the labels; returns them, and a note on files."""
    try:
        by_split = {split: _open_files([path], streaming, config) for split, path in _metadata(folder)}
    except tables.AddressError:
        raise
    except UserError:
        if not found.classes:
            raise
        return {}, "; the metadata can't be read and is ignored"
    columns = {column for rows in by_split.values() for column in rows.features}
    labeled = getattr(config, "label_column", None) in columns or any("label" in column.lower() for column in columns)
    if by_split and (labeled or not found.classes):
        by_split = _by_split_column(by_split["train"]) if [*by_split] == ["train"] else by_split
        return by_split, _listed(folder, found, by_split)
    return {}, "; the metadata has no labels and is ignored" if by_split else ""


def _metadata(folder: Path) -> list[tuple[str, Path]]:
    """Return the tables of paths and labels beside images, as `datasets` names them, with their splits."""
    places = {folder: "train"} | {
        place: SPLITS[place.name.lower()] for place in folder.iterdir() if place.name.lower() in SPLITS
    }
    paths = [(split, place / f"metadata{ending}") for place, split in places.items() for ending in _TABLES]
    return [(split, path) for split, path in paths if path.is_file()]


def _listed(folder: Path, found: FolderImages, tables: Mapping[str, Any]) -> str:
    """Return how many of a folder's images its metadata lists; of a stream, nothing."""
    images = [path for rows in found.splits.values() for path in _paths(rows)]
    listed = {path for rows in tables.values() if isinstance(rows, datasets.Dataset) for path in _paths(rows)}
    missing = [os.path.relpath(path, folder.absolute()) for path in images if path not in listed]
    return account(len(images) - len(missing), {"not in the metadata": missing}) if listed else ""


def _paths(rows: datasets.Dataset) -> list[str]:
    images = [name for name, feature in rows.features.items() if isinstance(feature, datasets.Image)]
    return [image["path"] for name in images for image in rows[name] if image]


def _streamed(splits: Mapping[str, datasets.Dataset]) -> dict[str, datasets.IterableDataset]:
    return {split: rows.to_iterable_dataset() for split, rows in splits.items()}


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
        check_cache(error)
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


def check_cache(error: BaseException | None) -> None:
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
