"""YOLO's folders: `data.yaml`, images, and a text file of boxes or polygons for each, in shares of the image."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from shvit_pl.data.folders import SPLITS, account, image_paths
from shvit_pl.data.objects.annotations import Annotations, Found, Source, stats_of
from shvit_pl.errors import UserError, first_line
from shvit_pl.files import as_text, from_text

_BOX, _FEWEST = 5, 7  # numbers of a line: a class with a box, and with the smallest polygon


@dataclass(frozen=True)
class _Set:
    """What `data.yaml` says."""

    file: Path
    names: dict[int, str]
    images: dict[str, list[str]]
    """Paths by split."""
    absent: list[str]
    """Entries of `data.yaml` that lead nowhere."""


def find_yolo(folder: Path) -> Source | None:
    """Recognize a YOLO folder, or its `data.yaml`; None where it is none."""
    file = _yaml(folder)
    if file is None:
        return None
    images = _read_yaml(file)
    paths = [path for paths in images.images.values() for path in paths]
    files = [str(file.absolute()), *paths, *map(_label_file, paths)]
    return Source("YOLO", [images.images, stats_of(files)], lambda: _read(images))


def _yaml(folder: Path) -> Path | None:
    if folder.is_file():
        return folder if folder.suffix.lower() in (".yaml", ".yml") else None
    usual = [folder / name for name in ("data.yaml", "data.yml", "dataset.yaml") if (folder / name).is_file()]
    others = [file for file in sorted((*folder.glob("*.yaml"), *folder.glob("*.yml"))) if _names_sets(file)]
    return usual[0] if usual else others[0] if len(others) == 1 else None


def _names_sets(file: Path) -> bool:
    text = file.read_text(encoding="utf-8", errors="replace")
    return all(re.search(rf"^{key}:", text, re.MULTILINE) for key in ("names", "(train|val)"))


def _read_yaml(file: Path) -> _Set:
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UserError(f"data.path: {file} can't be read ({first_line(error)}).") from error
    names = content.get("names") if isinstance(content, dict) else None
    if isinstance(names, list):
        names = dict(enumerate(names))
    if not names and isinstance(content, dict) and isinstance(content.get("nc"), int):
        names = {number: str(number) for number in range(content["nc"])}
    if isinstance(names, dict) and isinstance(content.get("nc"), int) and content["nc"] != len(names):
        raise UserError(
            f"data.path: {file} has nc: {content['nc']}, and names {len(names)} classes. Correct one of both."
        )
    if not isinstance(names, dict) or not names:
        raise UserError(f"data.path: {file} has no names of classes. Add them: names: [cat, dog].")
    images, absent = dict[str, list[str]](), list[str]()
    for key, split in SPLITS.items():
        entries = content.get(key) or []
        for entry in entries if isinstance(entries, list) else [entries]:
            place = _place(file, str(content.get("path") or ""), str(entry))
            if place is None and split == "validation":
                raise UserError(
                    f"data.path: {file} names {entry!r} for {key}, which is not there. Correct it, or take {key} out "
                    "to hold out a part of train."
                )
            if place is None:
                absent.append(str(entry))
            else:
                images.setdefault(split, []).extend(_images(place))
    if "train" not in images and "validation" not in images:
        entries = ", ".join(absent) or "it has no train and no val"
        raise UserError(f"data.path: the folders of images that {file} names are not there ({entries}). Correct it.")
    return _Set(file, {int(number): str(name) for number, name in names.items()}, images, absent)


def _place(file: Path, base: str, entry: str) -> Path | None:
    """Return where an entry leads: below `path`, the file's folder, or, as Roboflow writes it, `../train/images`."""
    folder = file.parent.absolute()
    plain = entry
    while plain.startswith(("../", "./")):
        plain = plain.split("/", 1)[1]
    for place in (folder / base / entry, folder / entry, folder / plain, Path(entry)):
        if place.exists():
            return Path(os.path.normpath(place.absolute()))
    return None


def _images(place: Path) -> list[str]:
    """Return the paths of a folder's images, or of those that a text file lists."""
    if place.is_file():
        lines = [line.strip() for line in place.read_text(encoding="utf-8").splitlines()]
        return [as_text(os.path.normpath(place.parent / line)) for line in lines if line]
    return image_paths(place)


def _label_file(image: str) -> str:
    """Return the path of an image's labels: `labels` for the last `images` in it, or beside it."""
    before, folder, after = image.rpartition(f"{os.sep}images{os.sep}")
    path = f"{before}{os.sep}labels{os.sep}{after}" if folder else image
    return os.path.splitext(path)[0] + ".txt"


def _read(images: _Set) -> Found:
    found = Found({}, images.names, box_format="yolo", upright=True, masks_are_shares=True)
    labeled = 0
    for split, paths in images.images.items():
        annotations = found.splits[split] = Annotations(split)
        for path in paths:
            name = os.path.relpath(path, images.file.parent.absolute())
            if not from_text(path).exists():
                found.missing.append(name)
                continue
            annotations.add_image(name, name, path=path)
            labels = from_text(_label_file(path))
            if not labels.is_file():
                continue
            labeled += 1
            for category, box, mask in _objects(labels):
                annotations.add(box, category, mask=mask)
    total = sum(len(split.names) for split in found.splits.values())
    if not labeled:
        example = next((_label_file(path) for paths in images.images.values() for path in paths), "labels/1.txt")
        raise UserError(
            f"data.path: no image of {images.file} has a file of labels, such as {example}. Put them there."
        )
    left_out = {"that data.yaml names and is not there": images.absent}
    background = f"; {total - labeled} without a file of labels are background" if total > labeled else ""
    found.files = account(total, left_out) + background
    return found


def _objects(file: Path) -> Iterator[tuple[float, list[float], list[list[float]] | None]]:
    """Yield class, box and mask of each line; a polygon's box is its extent."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise UserError(f"data.path: {file} can't be read ({first_line(error)}).") from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            category, *values = (float(part) for part in line.split())
        except ValueError as error:
            raise _wrong(file, number, f"{line[:40]!r} is not numbers") from error
        count = len(values) + 1
        if count != _BOX and (count < _FEWEST or count % 2 == 0):
            raise _wrong(file, number, f"{count} numbers")
        _check_shares(values, file, number)
        if count == _BOX:
            yield category, values, None
            continue
        points = np.array(values).reshape(-1, 2)
        low, high = points.min(0), points.max(0)
        yield category, [*((low + high) / 2).tolist(), *(high - low).tolist()], [values]


def _check_shares(values: list[Any], file: Path, number: int) -> None:
    if (most := max(map(abs, values))) > 1.5 and np.isfinite(most):
        raise _wrong(file, number, f"{most:g} is no share of the image")


def _wrong(file: Path, number: int, reason: str) -> UserError:
    return UserError(
        f"data.path: {file}, line {number}: {reason}. A line is a class and a box (center x, center y, width, height), "
        "or a class and three or more points, all from 0 to 1."
    )
