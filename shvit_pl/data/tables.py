"""Tables of paths and labels: what separates their columns, and whether the files that they name are there."""

import csv
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import pyarrow.compute as pc
from datasets import Dataset

from shvit_pl.data.config import SplitConfig
from shvit_pl.errors import UserError, visible
from shvit_pl.files import as_text, from_text

_SEPARATORS = (",", ";", "\t", "|")
_ADDRESS = re.compile(r"(?!file:)[a-zA-Z][\w+.-]+:/")
_SAMPLE = 8  # rows, by which images that are stored as paths are known
_LONGEST = 80  # characters of a name in a message


def root_of(config: SplitConfig) -> Path | None:
    """Return the folder where a table's relative paths begin, if one is given; raises `UserError` for none."""
    root = getattr(config, "root", None)
    if root is None:
        return None
    if not Path(root).expanduser().is_dir():
        raise UserError(f"data.root {root!r}: no such folder. Give the one where the table's relative paths begin.")
    return Path(root).expanduser()


def check_belongs(config: SplitConfig, is_table: bool, has_paths: bool) -> None:
    """Raise `UserError` for settings of tables where the data are none."""
    for flag, applies, kind in (("delimiter", is_table, "CSV"), ("root", has_paths, "a table with a column of paths")):
        value = getattr(config, flag, None)
        if value is not None and not applies:
            raise UserError(f"data.{flag} {value!r}: for {kind}, and {str(config.path)!r} is none; leave it out.")


def separator(path: Path, header: str, config: SplitConfig) -> str:
    """Return what separates the columns of CSV: `data.delimiter`, else which of comma, semicolon, tab and bar does.

    Raises `UserError` for a given one that is not in the header.
    """
    given = getattr(config, "delimiter", None)
    columns = {mark: len(next(csv.reader([header], delimiter=mark), [])) for mark in _SEPARATORS}
    found = max(columns, key=lambda mark: columns[mark])
    if given is None:
        return found
    mark = "\t" if given in ("tab", "\\t") else str(given)
    if len(next(csv.reader([header], delimiter=mark), [])) < 2 and columns[found] > 1:
        shown = "tab" if found == "\t" else found
        raise UserError(
            f"data.delimiter {given!r}: it isn't in the header of {str(path)!r}, which {shown!r} divides into "
            f"{columns[found]} columns. Leave it out, or give --data.delimiter {shown!r}."
        )
    return mark


class AddressError(UserError):
    """Paths of a table are addresses."""


def check_addresses(values: Sequence[str | None], column: str, table: Path) -> None:
    """Raise `UserError` for addresses in a column of paths."""
    found = [number for number, value in enumerate(values) if value and _ADDRESS.match(value)]
    if found:
        raise AddressError(
            f"data.path {str(table)!r}: {len(found)} of {len(values)} paths in the column {column!r} are addresses; "
            f"the first is {_short(values[found[0]])}, in row {found[0] + 1}. Download them, and give their paths."
        )


def check_files(path: str, splits: Mapping[str, Dataset], column: str) -> None:
    """Raise `UserError` where images that are stored as paths lead to no file; no file is opened."""
    for split, rows in splits.items():
        first = [image for image in rows[:_SAMPLE][column] if image]
        if not first or first[0].get("bytes") is not None:
            continue
        images = rows.select_columns(column).with_format("arrow")[:][column]
        paths = pc.struct_field(images, "path").to_pylist()
        if missing := _missing(paths):
            name = _short(paths[missing[0]]) if paths[missing[0]] else "empty"
            raise UserError(
                f"data.path {path!r}: {len(missing)} of {len(paths)} paths in the column {column!r} of '{split}' lead "
                f"to no file; the first is {name}, in row {missing[0] + 1}. Relative paths begin at the table's "
                "folder, or at --data.root FOLDER. Mend or remove these rows."
            )


def _missing(paths: Sequence[str | None]) -> list[int]:
    """Return the numbers of paths that lead to no file; each folder is listed once, as a look at each file is slow."""
    folders: dict[str, set[str]] = {}
    for folder in {os.path.dirname(path) for path in paths if path}:
        with suppress(OSError, ValueError):
            folders[folder] = set(_names(folder))
    return [
        number
        for number, path in enumerate(paths)
        if not path
        or not (os.path.basename(path) in folders.get(os.path.dirname(path), ()) or from_text(path).is_file())
    ]


def _names(folder: str) -> Iterable[str]:
    return (as_text(entry.name) for entry in os.scandir(from_text(folder)) if not entry.is_dir())


def _short(text: str | None) -> str:
    shown = visible(text or "")
    return shown if len(shown) <= _LONGEST else f"...{shown[3 - _LONGEST :]}"
