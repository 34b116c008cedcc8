"""A folder of images: folders give split and class, names of files never do, and every file is accounted for."""

import os
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from mimetypes import MimeTypes
from pathlib import Path
from typing import Any

from datasets import ClassLabel, Dataset, Features, Image
from PIL import Image as PILImage
from PIL import UnidentifiedImageError

from shvit_pl.errors import UserError, first_names
from shvit_pl.files import as_text

BROKEN_SHARE = 0.01  # of its images, a dataset may have broken
SPLITS = {  # by the folder's name in lower case
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}
_LIKE_SPLITS = {*SPLITS, "eval", "evaluation"}  # as a word of a folder's name
_WITH_IMAGES = (".parquet", ".arrow", ".tar", ".zip")
_OF_ROWS = (".parquet", ".arrow", ".csv", ".tsv", ".jsonl")  # the first of which a folder has is its dataset
_ARCHIVES = (".json", ".gz", ".tgz", ".xz", ".bz2", ".zst", ".h5", ".hdf5", ".lance")  # `datasets` may read more of
_SHARD = re.compile(r"(\w+(?:[.-]\w+)*)-\d{5}-of-\d{5}")  # as `datasets` writes a split's files
_TYPES = MimeTypes()  # the same on every machine, unlike `mimetypes.guess_type`
_OTHER_FORMATS = {".heic", ".heif", ".jxl", ".jxr", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".raf", ".rw2"}

# why a file is left out
_HIDDEN, _NO_FILE, _NO_IMAGE, _OUTSIDE, _ENDING, _EMPTY = (
    "hidden",
    "not a file",
    "not an image",
    "outside the class folders",
    "of a format that can't be read",
    "folder without images",
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


def read_images(folder: Path, sort: bool = True, arrays: bool = False) -> FolderImages | None:
    """Find the images of a folder: in class folders, or in split folders that hold class folders.

    Links are followed. A class is the folder below the root or the split, whatever is below it. With `sort` false,
    neither splits nor classes are looked for, and images of formats that can't be read are among the rows, though not
    counted as used. With `arrays`, files of numpy are images too.

    Returns None for a folder without images, and for one of tables or archives with a few images beside; raises
    `UserError` where folders can be read in two ways, and where more than 1 % of the images are of formats that can't
    be read.
    """
    names, left_out = _sorted_files(folder, arrays)
    others = left_out.get(_ENDING, [])
    if not names and not others:
        return None
    if sort:
        _check_formats(folder, names, others)
    else:
        names = sorted([*names, *others])
    splits = _by_split(folder, names) if sort else {"train": dict.fromkeys(names)}
    used = {name for rows in splits.values() for name in rows}
    left_out |= {_OUTSIDE: [name for name in names if name not in used], _EMPTY: _empty_folders(folder, names)}
    classes = sorted({label for rows in splits.values() for label in rows.values() if label is not None})
    if len(classes) < 2 and any(name.endswith(_WITH_IMAGES) for name in left_out.get(_NO_IMAGE, [])):
        return None
    rows = {split: _rows(folder, images, classes) for split, images in splits.items()}
    return FolderImages(rows, classes, account(len(used.difference(others)), left_out))


def image_paths(folder: Path) -> list[str]:
    """Return the paths, as text, of all images below a folder, those of formats that can't be read included."""
    names, left_out = _sorted_files(folder)
    return _paths(folder, sorted([*names, *left_out.get(_ENDING, [])]))


def table_files(folder: Path) -> tuple[dict[str, list[Path]], str]:
    """Return the files of rows below a folder by split, none where there are no such, and what became of all files.

    A file's split is that of a folder above it, or the word `train`, `test`, ... in its own name, as `datasets` has it.
    Raises `UserError` where only some of the files name a split, or one names two.
    """
    names = [os.path.relpath(path, folder) for path in _walk(str(folder), ())]
    visible = [name for name in names if not _is_hidden(name)]
    ending = next((end for end in _OF_ROWS if any(name.lower().endswith(end) for name in visible)), None)
    if ending is None:
        return {}, ""
    files = [name for name in visible if name.lower().endswith(ending)]
    splits = {name: _named_split(folder, name) for name in files}
    without = [name for name, split in splits.items() if split is None]
    if without and len(without) < len(files):
        raise UserError(
            f"data.path {str(folder)!r}: files that name no split ({_first(without)}) beside files that do. Put train, "
            "validation or test into each name, or into none, or give the one file."
        )
    others = {
        _HIDDEN: [name for name in names if _is_hidden(name)],
        f"not {ending}": [name for name in visible if name not in splits],
    }
    by_split: dict[str, list[Path]] = {split: [] for split in SPLITS.values()}
    for name, split in splits.items():
        by_split.setdefault(split or "train", []).append(folder / name)
    by_split = {split: paths for split, paths in by_split.items() if paths}
    return by_split, account(len(files), others, f"{ending[1:]} file")


def _named_split(folder: Path, name: str) -> str | None:
    """Return the split of a file of rows, by a folder above it or by its name; None where there is none."""
    *above, file = name.split(os.sep)
    for part in above:
        if part.lower() in SPLITS:
            return SPLITS[part.lower()]
    if shard := _SHARD.match(file):
        return SPLITS.get(shard[1].lower(), shard[1])
    splits = {SPLITS[word] for word in re.split(r"[\W\d_]+", file.lower()) if word in SPLITS}
    if len(splits) > 1:
        raise UserError(f"data.path {str(folder)!r}: {name} names several splits. Rename it, or give the one file.")
    return next(iter(splits), None)


def no_image(folder: Path) -> str | None:
    """Return why a folder can be no dataset: nothing in it may hold images; None where something may."""
    names = [os.path.relpath(path, folder) for path in _walk(str(folder), ())]
    if any(name.lower().endswith((*_WITH_IMAGES, *_OF_ROWS, *_ARCHIVES)) for name in names):
        return None
    count = f"{len(names)} other file{'s' * (len(names) != 1)}, {_first(names)}" if names else "it has no files"
    arrays = any(name.lower().endswith(ARRAYS) for name in names)
    return f"no image in the folder ({count})" + ("; with --data.channels, those of numpy are images" * arrays)


ARRAYS = ".npy"  # of numpy: images where channels are asked for


def readable_endings() -> set[str]:
    """Return the endings, in lower case, of the image formats that can be read here, such as `.jpg`."""
    endings, kinds = PILImage.registered_extensions(), PILImage.MIME
    return {name for name, form in endings.items() if form in PILImage.OPEN and kinds.get(form, "")[:6] == "image/"}


def _sorted_files(folder: Path, arrays: bool = False) -> tuple[list[str], dict[str, list[str]]]:
    """Return the names below the folder of all images, and by reason those of the other files."""
    readable = readable_endings() | ({ARRAYS} if arrays else set())
    images, left_out = list[str](), dict[str, list[str]]()
    for path in _walk(str(folder), ()):
        name = os.path.relpath(path, folder)
        ending = os.path.splitext(name)[1].lower()
        if _is_hidden(name):
            left_out.setdefault(_HIDDEN, []).append(name)
        elif os.path.exists(path) and not os.path.isfile(path):  # a pipe would be waited for
            left_out.setdefault(_NO_FILE, []).append(name)
        elif ending in readable or (not ending and holds_image(path)):
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


def _empty_folders(folder: Path, images: Sequence[str]) -> list[str]:
    """Return the folders, of those that may be classes, with no image below them."""
    tops = [path for path in sorted(folder.iterdir()) if path.is_dir()]
    below = [path for top in tops if top.name.lower() in SPLITS for path in sorted(top.iterdir()) if path.is_dir()]
    filled = {os.sep.join(name.split(os.sep)[:depth]) for name in images for depth in (1, 2)}
    names = [os.path.relpath(path, folder) for path in (*tops, *below)]
    return [name for name in names if name not in filled and not _is_hidden(name)]


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in name.split(os.sep))


def _is_other_format(path: str, ending: str) -> bool:
    """Return True for an image that can't be read by its ending; what has no known ending is looked into."""
    known = _TYPES.guess_type(path)[0] or ""
    return ending in _OTHER_FORMATS or known.startswith("image/") or (ending != "" and not known and holds_image(path))


def holds_image(path: str) -> bool:
    """Return whether a file begins as an image does, whatever its name."""
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
            f"({_first(others)}), and more than {BROKEN_SHARE:.0%} stops a run. Convert them to JPEG or PNG, give "
            "those that are such the ending, or remove them."
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
    if neither:
        beside = f" beside {first_names(list(splits))}, which has class folders" if splits else ""
        raise _wrong_folders(folder, f"that are neither split nor class ({_first(neither)}){beside}")
    if len(set(splits.values())) < len(splits):
        raise _wrong_folders(folder, f"of the same split ({_first(list(splits))})")
    within = dict.fromkeys(os.path.join(*part[:2]) for part in parts.values() if len(part) > 2 and not splits)
    inner = {name: SPLITS.get(os.path.basename(name).lower()) for name in within}
    if len(set(inner.values()) - {None}) > 1 and len(tops) == 1:
        raise UserError(f"data.path {str(folder)!r}: its splits are in {first_names(list(tops))}; give that folder.")
    if len(set(inner.values()) - {None}) > 1:
        raise _wrong_folders(folder, f"of splits in class folders ({_first([name for name in inner if inner[name]])})")
    if not splits and all(re.sub(r"[\W\d_]+", "", top.lower()) in SPLITS for top in tops):  # COCO has train2017
        return {"train": dict.fromkeys(names)}
    if not splits:
        return {"train": {name: _class(part[0]) for name, part in parts.items() if len(part) > 1}}
    return {
        split: {name: _class(part[1]) for name, part in parts.items() if part[0] == top and len(part) > 2}
        for top, split in splits.items()
    }


def _wrong_folders(folder: Path, kind: str) -> UserError:
    return UserError(
        f"data.path {str(folder)!r}: folders {kind}. Give one folder per class, or one each called train, validation "
        "and test with the classes' folders in them; rename or remove others."
    )


def _class(folder: str) -> str:
    """Return a class's name in the one form of its letters that other systems may have stored in another."""
    return as_text(unicodedata.normalize("NFC", folder))


def _paths(folder: Path, names: Iterable[str]) -> list[str]:
    return [as_text(os.path.join(os.path.abspath(folder), name)) for name in names]


def _rows(folder: Path, images: dict[str, str | None], classes: Sequence[str]) -> Dataset:
    columns: dict[str, Any] = {"image": _paths(folder, images)}
    features = Features(image=Image(decode=False))
    if classes:
        index = {name: position for position, name in enumerate(classes)}
        columns["label"] = [index[label] for label in images.values() if label is not None]
        features["label"] = ClassLabel(names=classes)
    return Dataset.from_dict(columns, features=features)


def account(used: int, left_out: dict[str, list[str]], kind: str = "image") -> str:
    """Return what became of all files: `40 images used; left out: 1 not an image (notes.txt)`."""
    parts = [f"{len(names)} {reason} ({_first(names)})" for reason, names in left_out.items() if names]
    return f"{used} {kind}{'s' * (used != 1)} used" + (f"; left out: {', '.join(parts)}" if parts else "")


def _first(names: Sequence[str]) -> str:
    return as_text(first_names(names))
