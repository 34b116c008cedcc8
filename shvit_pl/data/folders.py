"""A folder of images: folders give split and class, names of files never do, and every file is accounted for."""

import os
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from mimetypes import MimeTypes
from pathlib import Path
from typing import Any

from datasets import ClassLabel, Dataset, Features, Image
from PIL import Image as PILImage
from PIL import UnidentifiedImageError

from shvit_pl.errors import UserError

BROKEN_SHARE = 0.01  # of its images, a dataset may have broken
SPLITS = {  # by the folder's name in lower case
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}
_LIKE_SPLITS = {*SPLITS, "eval", "evaluation"}  # as a word of a folder's name
_TABLES = (".parquet", ".arrow", ".tar", ".zip")  # which hold images of their own
_TYPES = MimeTypes()  # the same on every machine, unlike `mimetypes.guess_type`
_OTHER_FORMATS = {".heic", ".heif", ".jxl", ".jxr", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".raf", ".rw2"}

# why a file is left out
_HIDDEN, _NO_IMAGE, _OUTSIDE, _ENDING = (
    "hidden",
    "not an image",
    "outside the class folders",
    "of a format that can't be read",
)


@dataclass(frozen=True)
class FolderImages:
    """The images of a folder."""

    splits: dict[str, Dataset]
    """`train`, `validation`, `test`, as far as there are folders for them, else `train` alone; columns `image` and, if
    the images are in class folders, `label`."""
    classes: list[str]
    """Their names; empty where there are no class folders."""
    files: str
    """What became of the folder's files, in a line."""


def read_images(folder: Path, sort: bool = True) -> FolderImages | None:
    """Find the images of a folder: in class folders, or in split folders that hold class folders.

    Links are followed. A class is the folder below the root or the split, whatever is below it. With `sort` false,
    neither splits nor classes are looked for, and images of formats that can't be read are among the rows.

    Returns None for a folder without images, and for one of tables or archives with a few images beside; raises
    `UserError` where folders can be read in two ways, and where more than 1 % of the images are of formats that can't
    be read.
    """
    names, left_out = _sorted_files(folder)
    if not sort:
        names = sorted([*names, *left_out.pop(_ENDING, [])])
    if not names and not left_out.get(_ENDING):
        return None
    _check_formats(folder, names, left_out.get(_ENDING, []))
    splits = _by_split(folder, names) if sort else {"train": dict.fromkeys(names)}
    used = {name for rows in splits.values() for name in rows}
    left_out |= {_OUTSIDE: [name for name in names if name not in used]}
    classes = sorted({label for rows in splits.values() for label in rows.values() if label is not None})
    if len(classes) < 2 and any(name.endswith(_TABLES) for name in left_out.get(_NO_IMAGE, [])):
        return None
    rows = {split: _rows(folder, images, classes) for split, images in splits.items()}
    return FolderImages(rows, classes, _account(len(used), left_out))


def readable_endings() -> set[str]:
    """Return the endings, in lower case, of the image formats that can be read here, such as `.jpg`."""
    endings, kinds = PILImage.registered_extensions(), PILImage.MIME
    return {name for name, form in endings.items() if form in PILImage.OPEN and kinds.get(form, "")[:6] == "image/"}


def _sorted_files(folder: Path) -> tuple[list[str], dict[str, list[str]]]:
    """Return the names below the folder of all images, and by reason those of the other files."""
    readable = readable_endings()
    images, left_out = list[str](), dict[str, list[str]]()
    for path in _walk(str(folder), ()):
        name = os.path.relpath(path, folder)
        ending = os.path.splitext(name)[1].lower()
        if any(part.startswith(".") or part == "__MACOSX" for part in name.split(os.sep)):
            left_out.setdefault(_HIDDEN, []).append(name)
        elif ending in readable or (not ending and _holds_image(path)):
            images.append(name)
        else:
            left_out.setdefault(_ENDING if _is_other_format(path, ending) else _NO_IMAGE, []).append(name)
    return images, left_out


def _walk(folder: str, above: Sequence[tuple[int, int]]) -> Iterator[str]:
    """Yield the paths of all files, in order; a link to a folder that it is in is not followed."""
    try:
        status = os.stat(folder)
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise UserError(f"data.path: the folder {folder!r} can't be read ({error.strerror}).") from error
    own = status.st_dev, status.st_ino
    if own in above:
        return
    for entry in entries:
        if entry.is_dir():
            yield from _walk(entry.path, (*above, own))
        else:
            yield entry.path


def _is_other_format(path: str, ending: str) -> bool:
    """Return True for an image that can't be read by its ending; what has no known ending is looked into."""
    known = _TYPES.guess_type(path)[0] or ""
    return ending in _OTHER_FORMATS or known.startswith("image/") or (ending != "" and not known and _holds_image(path))


def _holds_image(path: str) -> bool:
    try:
        PILImage.open(path).close()
    except (UnidentifiedImageError, OSError):
        return False
    except Exception:  # such as too many pixels: an image that is found broken when it is read
        return True
    return True


def _check_formats(folder: Path, readable: Sequence[str], others: Sequence[str]) -> None:
    """Raise `UserError` where more images than may be broken are of formats that can't be read."""
    total = len(readable) + len(others)
    if len(others) > BROKEN_SHARE * total:
        raise UserError(
            f"data.path {str(folder)!r}: {len(others)} of {total} images are {_ENDING}, by their endings "
            f"({_first(others)}), and more than {BROKEN_SHARE:.0%} stops a run. Convert them to JPEG or PNG, or remove "
            "them."
        )


def _by_split(folder: Path, names: Sequence[str]) -> dict[str, dict[str, str | None]]:
    """Return each split's images with their classes; raises `UserError` for folders that are neither split nor class.

    Images in no class folder are left out, unless there are only such: then none has a class.
    """
    parts = {name: name.split(os.sep) for name in names}
    tops = dict.fromkeys(part[0] for part in parts.values() if len(part) > 1)
    with_folders = dict.fromkeys(part[0] for part in parts.values() if len(part) > 2)
    splits = {top: SPLITS[top.lower()] for top in with_folders if top.lower() in SPLITS}
    alike = [top for top in with_folders if not _LIKE_SPLITS.isdisjoint(re.split(r"[\W\d_]+", top.lower()))]
    neither = [top for top in tops if top.lower() not in SPLITS] if splits else alike
    if neither or len(set(splits.values())) < len(splits):
        wrong = neither or list(splits)
        kind = "that are neither split nor class" if neither else "of the same split"
        raise UserError(
            f"data.path {str(folder)!r}: folders {kind} ({_first(wrong)}). Give one folder per class, or one each "
            "called train, validation and test with the classes' folders in them; rename or remove others."
        )
    if not splits and all(top.lower() in SPLITS for top in tops):
        return {"train": dict.fromkeys(names)}
    if not splits:
        return {"train": {name: _class(part[0]) for name, part in parts.items() if len(part) > 1}}
    return {
        split: {name: _class(part[1]) for name, part in parts.items() if part[0] == top and len(part) > 2}
        for top, split in splits.items()
    }


def _class(folder: str) -> str:
    """Return a class's name in the one form of its letters that other systems may have stored in another."""
    return unicodedata.normalize("NFC", folder)


def _rows(folder: Path, images: dict[str, str | None], classes: Sequence[str]) -> Dataset:
    columns: dict[str, Any] = {"image": [os.path.join(os.path.abspath(folder), name) for name in images]}
    features = Features(image=Image(decode=False))
    if classes:
        index = {name: position for position, name in enumerate(classes)}
        columns["label"] = [index[label] for label in images.values() if label is not None]
        features["label"] = ClassLabel(names=classes)
    return Dataset.from_dict(columns, features=features)


def _account(used: int, left_out: dict[str, list[str]]) -> str:
    """Return what became of all files: `40 images used; left out: 1 not an image (notes.txt)`."""
    parts = [f"{len(names)} {reason} ({_first(names)})" for reason, names in left_out.items() if names]
    return f"{used} images used" + (f"; left out: {', '.join(parts)}" if parts else "")


def _first(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
