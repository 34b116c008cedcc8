"""What is wrong with boxes: judged once, before training; mended and counted, or refused."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shvit_pl.data.folders import BROKEN_SHARE
from shvit_pl.data.objects.annotations import Annotations, Found
from shvit_pl.data.objects.box_format import (
    FEW,
    NORMALIZED,
    SOME,
    Boxes,
    are_normalized,
    decide,
    share_wrong,
    to_corners,
)
from shvit_pl.data.objects.classes import Classes, number_classes
from shvit_pl.data.objects.config import BoxFormat, ObjectsConfig
from shvit_pl.data.objects.image_files import count_shared, measure
from shvit_pl.data.objects.masks import Masks, parse_masks
from shvit_pl.errors import UserError, first_few, first_names

Marks = NDArray[np.bool_]
_LEAST_SIDE, _LEAST_SHARE = 1.0, 0.2  # of a clipped box: pixels, and share of its area
_MANY_CROWDS = 0.5  # of the objects
_LEAST_OVERLAP = 0.5  # IoU of a box and its mask's extent
NO_MASKS = "masks are not used"
"""Begins the note that says why."""

_NO_SIDE, _TINY, _OUTSIDE, _NO_MASK = (
    "no width or height",
    "less than a pixel wide and high",
    "outside the image",
    "an empty mask",
)


@dataclass
class Judged:
    """Objects of all splits that are fit for training, one after the other."""

    starts: dict[str, int]
    """By split: its first object; `kept` and the arrays below count all that were found."""
    kept: Marks
    corners: NDArray[np.float64]
    """`(N, 4)`: xyxy in pixels, inside the image."""
    areas: NDArray[np.float64]
    crowds: Marks
    classes: Classes
    masks: Masks
    has_masks: bool
    turned: bool
    counts: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def judge(found: Found, config: ObjectsConfig, known: Sequence[str]) -> Judged:
    """Check all images and objects of a dataset; fills in the sizes of images.

    Raises `UserError` for what can't be mended, and where more than 1 % of the boxes or images would be left out.
    """
    splits = list(found.splits.values())
    _check_images(found, splits)
    turned, notes = measure(found, config.exif_rotation)
    where = _namer(splits)
    numbers, sizes = _numbers(splits, where), _sizes(splits)
    masks = parse_masks([mask for split in splits for mask in split.masks], sizes, found.masks_are_shares)
    areas = np.array([area for split in splits for area in split.areas], np.float64)
    readable = np.asarray(np.isfinite(sizes).all(axis=1))  # objects of images that are not leave with them
    form, evidence = _box_format(
        Boxes(numbers[readable], sizes[readable], areas[readable], masks.extents[readable]), found, config
    )
    warnings = _check_format(numbers[readable], sizes[readable], form, found, config)
    corners, clipped, dropped = _repair(to_corners(numbers, sizes, form), sizes, readable)
    has_masks = _judge_masks(masks, corners, readable, dropped, where, notes, warnings)
    kept = readable & ~np.logical_or.reduce(list(dropped.values()))
    reasons = _dropped(found, dropped, where)
    _check_dropped(found, reasons, int(readable.sum()), form)
    values = [value for split in splits for value in split.categories]
    classes = number_classes(values, found.categories, known, where)
    crowds = np.array([crowd for split in splits for crowd in split.crowds], bool)
    judged = Judged(
        starts=dict(zip(found.splits, np.cumsum([0, *(len(split.rows) for split in splits)]).tolist(), strict=False)),
        kept=kept,
        corners=corners,
        areas=_areas(areas, masks if has_masks else None, corners),
        crowds=crowds & (config.crowd == "ignore"),
        classes=classes,
        masks=masks,
        has_masks=has_masks,
        turned=turned,
        warnings=warnings,
    )
    _describe(judged, found, reasons, clipped & kept, f"{form} ({evidence})" if evidence else form)
    judged.notes += notes
    judged.warnings += count_shared(found.splits)
    if crowds[kept].mean() > _MANY_CROWDS and config.crowd == "ignore":
        judged.warnings.append(
            f"data.crowd ignore: {crowds[kept].mean():.0%} of the objects are crowds (iscrowd 1), which are neither "
            "trained on nor measured. Some programs mark every mask so: then give --data.crowd object."
        )
    return judged


def _check_images(found: Found, splits: Sequence[Annotations]) -> None:
    total = sum(len(split.names) for split in splits) + len(found.missing)
    if len(found.missing) > BROKEN_SHARE * total:
        raise UserError(
            f"data.path: {len(found.missing)} of {total} images are not there ({first_names(found.missing, 2)}), and "
            f"more than {BROKEN_SHARE:.0%} stops a run. Put them beside their annotations, or correct the paths."
        )
    if not any(split.rows for split in splits):
        raise UserError("data.path: no split has a box. Give data with boxes, or name their column and field.")


def _namer(splits: Sequence[Annotations]) -> Callable[[int], str]:
    def where(index: int) -> str:
        for split in splits:
            if index < len(split.rows):
                return split.where(index)
            index -= len(split.rows)
        raise IndexError(index)

    return where


def _numbers(splits: Sequence[Annotations], where: Callable[[int], str]) -> NDArray[np.float64]:
    """Return all boxes `(N, 4)` as they are written; raises `UserError` for one that is not four finite numbers."""
    boxes: list[Any] = [box for split in splits for box in split.boxes]
    with suppress(ValueError, TypeError):
        numbers = np.array(boxes, np.float64)
        if numbers.shape == (len(boxes), 4) and np.isfinite(numbers).all():
            return numbers
    numbers = np.array([_four(box) for box in boxes])
    wrong = np.flatnonzero(~np.isfinite(numbers).all(1))
    if len(wrong):
        raise UserError(
            f"data.path: {len(wrong)} box{'es are' if len(wrong) > 1 else ' is'} not four finite numbers: "
            f"{boxes[wrong[0]]} in {where(int(wrong[0]))}. Correct or remove them."
        )
    return numbers


def _four(box: Any) -> list[float]:
    """Return a box's numbers, NaN for what is none."""
    with suppress(ValueError, TypeError):
        if len(box) == 4:
            return [float(number) for number in box]
    return [np.nan] * 4


def _sizes(splits: Sequence[Annotations]) -> NDArray[np.float64]:
    """Return by object the width and height of its image `(N, 2)`, NaN where unknown."""
    by_split = [np.array([size or (np.nan, np.nan) for size in split.sizes], float).reshape(-1, 2) for split in splits]
    return np.concatenate([own[split.rows] for own, split in zip(by_split, splits, strict=True)]).reshape(-1, 2)


def _box_format(boxes: Boxes, found: Found, config: ObjectsConfig) -> tuple[BoxFormat, str]:
    """Return the format of the boxes and the evidence for it; raises `UserError` where it can't be the right one."""
    given = config.box_format
    if found.box_format is not None:
        if given not in ("auto", found.box_format):
            raise UserError(f"data.box_format {given}: boxes of this format are {found.box_format}; leave it out.")
        return found.box_format, ""
    if are_normalized(boxes.numbers) and (given in ("xywh", "xyxy", "cxcywh") or (given == "auto" and found.usual)):
        raise UserError(
            f"data.box_format {given}: no number of a box is above {NORMALIZED:g}, so they are shares of the image, "
            "and not pixels. Give --data.box_format yolo if they are center and size, or change them to pixels."
        )
    if given == "yolo" and (np.abs(boxes.numbers) > NORMALIZED).any(1).mean() > FEW:
        most = np.abs(boxes.numbers).max()
        raise UserError(
            f"data.box_format yolo: numbers of boxes reach {most:g}, so they are pixels, and not shares of the image. "
            "Give --data.box_format xywh, xyxy or cxcywh."
        )
    return decide(boxes, found.usual, found.usual_of) if given == "auto" else (given, "as given")


def _check_format(numbers: Any, sizes: Any, form: BoxFormat, found: Found, config: ObjectsConfig) -> list[str]:
    """Return a warning where a given format does not fit to the boxes; raises `UserError` where a known one doesn't."""
    share = share_wrong(numbers, sizes, form)
    if share <= SOME:
        return []
    what = f"{share:.0%} of the boxes leave their image or end before they begin, if they are {form}"
    if config.box_format == "auto":  # decided by the kind of files
        raise UserError(
            f"data.path: {what}, as such files have them: center x, center y, width and height in shares of the image. "
            f"Export them anew; if they are right, give --data.box_format {form}."
        )
    return [f"data.box_format {form}: {what}. Look at figures/inputs.png, and give another where boxes are misplaced."]


def _repair(
    corners: NDArray[np.float64], sizes: NDArray[np.float64], readable: Marks
) -> tuple[NDArray[np.float64], Marks, dict[str, Marks]]:
    """Clip boxes to their images; returns them, which were clipped, and by reason those that are to be dropped."""
    sides = corners[:, 2:] - corners[:, :2]
    inside = np.where(readable[:, None], np.clip(corners, 0, np.tile(sizes, 2)), corners)
    left = inside[:, 2:] - inside[:, :2]
    clipped = (np.abs(inside - corners) > 0.01).any(1)
    no_side = (sides <= 0).any(1) & readable
    tiny = (sides < _LEAST_SIDE).all(1) & ~no_side & readable
    with np.errstate(invalid="ignore"):
        little = (left < np.minimum(_LEAST_SIDE, sides)).any(1) | (left.prod(1) < _LEAST_SHARE * sides.prod(1))
    outside = little & clipped & ~no_side & ~tiny & readable
    return inside, clipped & ~no_side, {_NO_SIDE: no_side, _TINY: tiny, _OUTSIDE: outside}


def _judge_masks(
    masks: Masks,
    corners: NDArray[np.float64],
    readable: Marks,
    dropped: dict[str, Marks],
    where: Callable[[int], str],
    notes: list[str],
    warnings: list[str],
) -> bool:
    """Return whether there are masks; a few objects without one are dropped, many make them useless.

    So do masks of which many do not fit to their boxes.
    """
    left = readable & ~np.logical_or.reduce(list(dropped.values()))
    without = left & ~masks.are_there
    if not (left & masks.are_there).any() and not masks.wrong:
        return False
    if masks.wrong:
        index, reason = next(iter(masks.wrong.items()))
        raise UserError(
            f"data.mask_key: {len(masks.wrong)} mask{'s do' if len(masks.wrong) > 1 else ' does'} not fit: {reason} in "
            f"{where(index)}. Correct or remove them."
        )
    if without.sum() > BROKEN_SHARE * left.sum():
        notes.append(f"{NO_MASKS}: {without.sum()} of {left.sum()} objects have none ({where(_first(without))})")
        return False
    there = left & masks.are_there
    apart = there & (_overlaps(corners, masks.extents) < _LEAST_OVERLAP)
    if apart.sum() > SOME * there.sum():
        notes.append(f"{NO_MASKS}: {apart.sum()} of {there.sum()} hardly overlap their box ({where(_first(apart))})")
        warnings.append(
            f"data.mask_key: {apart.sum()} of {there.sum()} masks hardly overlap their box, as in "
            f"{where(_first(apart))}: one of both is wrong. Masks are not used; look at the boxes in "
            "figures/inputs.png."
        )
        return False
    dropped[_NO_MASK] = without
    return True


def _overlaps(boxes: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the IoU of each box with the other one."""
    low, high = np.maximum(boxes[:, :2], others[:, :2]), np.minimum(boxes[:, 2:], others[:, 2:])
    shared = np.clip(high - low, 0, None).prod(1)
    union = (boxes[:, 2:] - boxes[:, :2]).prod(1) + (others[:, 2:] - others[:, :2]).prod(1) - shared
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(shared / union)


def _first(marks: Marks) -> int:
    return int(np.flatnonzero(marks)[0])


def _dropped(found: Found, dropped: dict[str, Marks], where: Callable[[int], str]) -> dict[str, list[str]]:
    """Return the names of the first three boxes left out by reason, and nothing for the others."""
    named = {reason: _names(marks, where) for reason, marks in dropped.items() if marks.any()}
    return named | {reason: [*names[:3], *[""] * len(names[3:])] for reason, names in found.lost.items() if names}


def _names(marks: Marks, where: Callable[[int], str]) -> list[str]:
    places = np.flatnonzero(marks).tolist()
    return [where(index) for index in places[:3]] + [""] * len(places[3:])


def _check_dropped(found: Found, reasons: dict[str, list[str]], total: int, form: BoxFormat) -> None:
    total += sum(len(names) for names in found.lost.values())
    count = sum(len(names) for names in reasons.values())
    if count > BROKEN_SHARE * total:
        parts = ", ".join(f"{len(names)} {reason} (such as {names[0]})" for reason, names in reasons.items())
        doubtful = not found.box_format and not {_NO_SIDE, _TINY, _OUTSIDE}.isdisjoint(reasons)
        check = f" Is --data.box_format {form} right? If so, correct or remove them." if doubtful else ""
        raise UserError(
            f"data.path: {count} of {total} boxes can't be used: {parts}; more than {BROKEN_SHARE:.0%} stops a run."
            f"{check or ' Correct or remove them.'}"
        )


def _areas(given: NDArray[np.float64], masks: Masks | None, corners: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the area of each object: as annotated, else of its mask, else of its box."""
    of_box = (corners[:, 2:] - corners[:, :2]).prod(1)
    other = of_box if masks is None else np.where(masks.are_there, masks.areas, of_box)
    with np.errstate(invalid="ignore"):
        return np.where(np.isfinite(given) & (given > 0), given, other)


def _describe(judged: Judged, found: Found, reasons: dict[str, list[str]], clipped: Marks, form: str) -> None:
    """Write counts and notes."""
    splits, kept = found.splits.values(), judged.kept
    images = sum(len(split.names) for split in splits)
    filled = sum(
        len(np.unique(np.array(split.rows, int)[kept[start : start + len(split.rows)]]))
        for split, start in zip(splits, judged.starts.values(), strict=False)
    )
    judged.counts = {
        "images": images,
        "images without objects": images - filled,
        "images missing": len(found.missing),
        "boxes": int(kept.sum()),
        "boxes clipped": int(clipped.sum()),
        **{f"boxes dropped: {reason}": len(names) for reason, names in reasons.items()},
        "crowds": int(judged.crowds[kept].sum()),
    }
    parts = [f"{clipped.sum()} clipped to their image"] if clipped.any() else []
    for reason, names in reasons.items():
        parts.append(f"{len(names)} dropped, {reason}: {first_few(names)}")
    repairs = f" ({'; '.join(parts)})" if parts else ""
    judged.notes.append(f"{kept.sum()} boxes in {images} images{repairs}; {form}")
    if images > filled:
        judged.notes.append(f"{images - filled} of {images} images have no objects")
    if found.missing:
        judged.notes.append(f"{len(found.missing)} images are not there and left out: {first_names(found.missing)}")
    if judged.classes.unused:
        judged.notes.append(f"classes without an object are left out: {first_names(judged.classes.unused)}")
