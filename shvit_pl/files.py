"""Atomic writing of files and folders, rows as CSV, and checks of where they may go."""

import csv
import os
import re
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from fnmatch import fnmatch
from pathlib import Path
from typing import Any
from uuid import uuid4

from shvit_pl.errors import UserError

CHAIN = "::"  # fsspec, by which Lightning writes, takes what stands before it for the path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder, whose file or folder replaces `path` when the block ends well.

    If the block raises, its output is deleted, and `path` stays as it was. A link to a folder stays a link.
    """
    path = path.resolve() if path.is_dir() else path
    own = uuid4().hex  # nobody else's, even on a disk that machines share
    partial = path.with_name(f".{own}_{path.name}")  # some writers look at the name's end
    try:
        yield partial
        if path.is_dir() and partial.is_dir():
            # a folder can't be replaced at once: it is put aside, and comes back if its successor can't take its place
            aside = partial.with_name(f"{partial.name}.old")
            path.replace(aside)
            try:
                partial.replace(path)
            except OSError:
                aside.replace(path)
                raise
            with suppress(OSError):  # the new one is in its place
                remove(aside)
        else:
            partial.replace(path)
    finally:
        remove(partial)


def write_whole(path: Path, content: bytes) -> Path:
    """Write a file atomically, and make its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial:
        partial.write_bytes(content)
    return path


def remove(path: Path) -> None:
    """Delete a file or a folder, if it is there."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def as_text(path: str) -> str:
    r"""Return a path that can be stored and printed: bytes that are not UTF-8 become `\udcXX`, as Python shows them."""
    return path.encode("utf-8", "backslashreplace").decode()


def from_text(text: str) -> Path:
    """Return the path of a file from the text that `as_text` made of it."""
    path = Path(text)
    if "\\udc" in text and not path.exists():
        path = Path(re.sub(r"\\(udc[0-9a-f]{2})", lambda code: chr(int(code[1][1:], 16)), text))
    return path


def size(path: Path) -> int:
    """Return the bytes of a file, or of all files in a folder."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write a CSV whose columns are the first row's keys."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def read_rows(path: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV, as text."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def output_folder(output: str, *patterns: str, needed: Collection[str] = ()) -> Path:
    """Return the folder of `--output`, which may be missing, empty, or hold earlier results of the same command.

    Results are files that match one of the patterns, the `needed` ones among them. Raises `UserError` for other files,
    and where nothing can be written.
    """
    folder = Path(output).expanduser()
    check_writable("--output", str(folder))
    if not folder.exists() or not any(folder.iterdir()):
        return folder
    files = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir())
    complete = all((folder / name).is_file() for name in needed)
    if not complete or not all(any(fnmatch(file, pattern) for pattern in patterns) for file in files):
        raise UserError(f"--output {str(folder)!r}: contains other files; give a new folder.")
    return folder


def check_writable(flag: str, folder: str) -> None:
    """Raise `UserError` when nothing can be written into a flag's folder, or the folder can't be made."""
    if not folder:
        raise UserError(f"{flag} '': give a folder, such as runs.")
    if CHAIN in folder:
        raise UserError(f"{flag} {folder!r}: {CHAIN!r} is not allowed in it, as Lightning would write elsewhere.")
    there = Path(folder).absolute()
    while not there.exists():
        there = there.parent
    if not there.is_dir():
        raise UserError(f"{flag} {folder!r}: {there} is a file; give a folder.")
    if not os.access(there, os.W_OK | os.X_OK):
        raise UserError(f"{flag} {folder!r}: no access to write into {there}; give another folder.")
