"""What the files of images say: their sizes, whether they are turned, and which are in two splits."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image as PILImage

from shvit_pl.data.folders import BROKEN_SHARE
from shvit_pl.data.objects.annotations import Annotations, Found
from shvit_pl.errors import UserError, first_few

_SAMPLE = 200  # images that are looked into
_ORIENTATION = 0x0112
_ON_ITS_SIDE = 5  # the first of the orientations that swap width and height

Size = tuple[int, int]
_Entry = tuple[Annotations, int, tuple[Size, int]]  # a split, a row, and its image's size and orientation


def measure(found: Found, rotation: bool | Literal["auto"]) -> tuple[bool, list[str]]:
    """Compare annotated sizes with the files', fill in those that are missing, and return whether images are turned.

    The second result are notes. Unreadable images stay without a size. Raises `UserError` where more than 1 % of a
    sample have another size, and where annotations of some images are of the turned one, and of others not.
    """
    sample = _sample(found.splits.values())
    headers = [(split, row, header) for split, row in sample if (header := _header(split.open(row))) is not None]
    turned, notes = _are_turned(found, headers, rotation)
    wrong = [
        f"{split.image(row)} has {_by(_size(header, turned))} pixels, annotated are {_by(annotated)}"
        for split, row, header in headers
        if (annotated := split.sizes[row]) is not None and _size(header, turned) != annotated
    ]
    if len(wrong) > BROKEN_SHARE * len(headers):
        flag = (
            ""
            if rotation == "auto"
            else f" If only turned images are concerned, leave out data.exif_rotation {rotation}."
        )
        raise UserError(
            f"data.path: {len(wrong)} of {len(headers)} images are not of their annotated size: {wrong[0]}. Boxes "
            f"would be misplaced; give the images that were annotated, or correct width and height.{flag}"
        )
    if wrong:
        notes.append(f"{len(wrong)} of {len(headers)} images are not of their annotated size: {first_few(wrong)}")
    concerned = {orientation for _, _, (_, orientation) in headers}
    undecided = [split.image(row) for split, row, (_, orientation) in headers if orientation > 1]
    if rotation == "auto" and not turned and undecided and not found.upright and not _lying(headers):
        notes.append(
            f"{len(undecided)} of {len(headers)} images have an EXIF rotation that their size does not decide; they "
            f"are not turned (--data.exif_rotation true turns them): {first_few(undecided)}"
        )
    unreadable = []
    for split in found.splits.values():
        for row, size in enumerate(split.sizes):
            if size is not None:
                continue
            if (header := _header(split.open(row))) is None:
                unreadable.append(split.image(row))
                continue
            split.sizes[row] = _size(header, turned)
            concerned.add(header[1])
    total = sum(len(split.names) for split in found.splits.values())
    if len(unreadable) > BROKEN_SHARE * total:
        raise UserError(
            f"data.path: {len(unreadable)} of {total} images can't be read, and more than {BROKEN_SHARE:.0%} stops a "
            f"run: {unreadable[0]}. Repair or remove them."
        )
    if turned and rotation == "auto" and not notes:
        turned = max(concerned, default=1) > 1
        notes += ["images are turned as their EXIF block says, as YOLO's programs do"] if turned else []
    return turned, notes


def _sample(splits: Iterable[Annotations]) -> list[tuple[Annotations, int]]:
    """Return images evenly spaced over those whose size is annotated."""
    places = [(split, row) for split in splits for row, size in enumerate(split.sizes) if size is not None]
    spaced = np.unique(np.linspace(0, len(places) - 1, min(_SAMPLE, len(places))).round().astype(int))
    return [places[index] for index in spaced]


def _header(file: Any) -> tuple[Size, int] | None:
    """Return width, height and orientation from an image's header; None where it can't be read."""
    try:
        with PILImage.open(file) as image:
            return image.size, int(image.getexif().get(_ORIENTATION, 1)) if "exif" in image.info else 1
    except Exception:  # PIL's readers raise whatever their parsing runs into; the loader will name the image
        return None


def _size(header: tuple[Size, int], turned: bool) -> Size:
    (width, height), orientation = header
    return (height, width) if turned and orientation >= _ON_ITS_SIDE else (width, height)


def _by(size: Size) -> str:
    return f"{size[0]} x {size[1]}"


def _lying(headers: Sequence[_Entry]) -> list[_Entry]:
    """Return the images whose size tells whether they are turned."""
    return [entry for entry in headers if entry[2][1] >= _ON_ITS_SIDE and entry[2][0][0] != entry[2][0][1]]


def _are_turned(found: Found, headers: Sequence[_Entry], rotation: bool | Literal["auto"]) -> tuple[bool, list[str]]:
    """Return whether annotations are of images turned as their EXIF block says, and a note."""
    if rotation != "auto":
        return rotation, []
    fits = {
        turned: [
            split.image(row) for split, row, header in _lying(headers) if split.sizes[row] == _size(header, turned)
        ]
        for turned in (True, False)
    }
    if fits[True] and fits[False]:
        raise UserError(
            f"data.exif_rotation auto: some annotations are of the image turned by its EXIF block ({fits[True][0]}), "
            f"others of the image as stored ({fits[False][0]}). Remove the EXIF blocks and annotate one way, or give "
            "--data.exif_rotation true or false."
        )
    if fits[True]:
        return True, [
            f"images are turned as their EXIF block says: only so {len(fits[True])} have their annotated size"
        ]
    return found.upright and not fits[False], []


# ---- the same image twice


def count_shared(splits: dict[str, Annotations]) -> list[str]:
    """Return a warning for each other split that shares images with `train`, byte by byte."""
    if "train" not in splits:
        return []
    warnings = []
    mine = _by_size(splits["train"])
    for name, split in splits.items():
        if name == "train":
            continue
        theirs = _by_size(split)
        pairs = [(mine[size], theirs[size]) for size in theirs if size in mine]
        known = {_digest(splits["train"], row) for rows, _ in pairs for row in rows} if pairs else set()
        both = [row for _, rows in pairs for row in rows if _digest(split, row) in known]
        if both:
            warnings.append(
                f"data.path: {len(both)} of {len(split.names)} images of {name} are in train, too (such as "
                f"{split.names[both[0]]}): the measured precision is too high. Remove them from one split."
            )
    return warnings


def _by_size(split: Annotations) -> dict[int, list[int]]:
    """Return rows by the bytes of their image's file."""
    rows: dict[int, list[int]] = defaultdict(list)
    for row in range(len(split.names)):
        file = split.open(row)
        if isinstance(file, Path):
            try:
                rows[file.stat().st_size].append(row)
            except OSError:
                continue
        elif file is not None:
            rows[file.size()].append(row)
    return rows


def _digest(split: Annotations, row: int) -> bytes:
    file = split.open(row)
    try:
        data = file.read_bytes() if isinstance(file, Path) else file.read()
    except OSError:
        data = f"{split.split} {row}".encode()  # equal to no other
    return blake2b(data, digest_size=16).digest()
