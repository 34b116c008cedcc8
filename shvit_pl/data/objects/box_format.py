"""What the four numbers of a box are: decided by what the boxes would be, never by habit."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shvit_pl.data.objects.config import BoxFormat
from shvit_pl.errors import UserError

Array = NDArray[np.float64]

NORMALIZED = 1.5  # no coordinate above: shares of the image, and not pixels
FEW = 0.005  # of boxes may contradict the right format
SOME = 0.05  # may, where every other format has ten times as many
_SLACK = (1.0, 0.002)  # pixels, and share of the image: how far a right box may leave it
_FORMATS: tuple[BoxFormat, ...] = ("xywh", "xyxy", "cxcywh")


@dataclass(frozen=True)
class Boxes:
    """Boxes as they are written, and what else is known of them."""

    numbers: Array
    """`(N, 4)`."""
    sizes: Array
    """`(N, 2)`: width and height of each box's image."""
    areas: Array
    """`(N,)`: pixels as annotated; NaN where unknown."""
    extents: Array
    """`(N, 4)`: xyxy of each mask; NaN where there is none."""


def to_corners(numbers: Array, sizes: Array, form: BoxFormat) -> Array:
    """Return boxes as xyxy in pixels."""
    if form == "yolo":
        numbers, form = numbers * np.tile(sizes, 2), "cxcywh"
    first, second = numbers[:, :2], numbers[:, 2:]
    if form == "xyxy":
        return numbers
    corner = first - second / 2 if form == "cxcywh" else first
    return np.concatenate([corner, corner + second], axis=1)


def are_normalized(numbers: Array) -> bool:
    """Return whether all coordinates are so small that they are shares of the image."""
    return bool(len(numbers)) and bool((np.abs(numbers) <= NORMALIZED).all())


def decide(boxes: Boxes, usual: BoxFormat | None = None, usual_of: str = "") -> tuple[BoxFormat, str]:
    """Return the format of boxes and the evidence for it, in a few words.

    A format is out where its boxes leave their image or end before they begin. Of those that stand, masks decide, then
    areas, then `usual`, the custom of the source `usual_of`. Raises `UserError` where nothing does.
    """
    return _normalized(boxes) if are_normalized(boxes.numbers) else _in_pixels(boxes, usual, usual_of)


def _in_pixels(boxes: Boxes, usual: BoxFormat | None, usual_of: str) -> tuple[BoxFormat, str]:
    wrong = {form: share_wrong(boxes.numbers, boxes.sizes, form) for form in _FORMATS}
    stand = _standing(wrong, usual)
    others = ", ".join(f"{form} {share:.0%}" for form, share in wrong.items() if form not in stand)
    outside = f"outside their image or inside out: {others}" if others else "all inside their images in each format"
    if len(stand) == 1:
        return stand[0], outside
    for name, fits in (("masks fit", _fit_masks), ("areas are the boxes'", _are_areas), ("areas fit", _hold_areas)):
        fitting = {form: fits(boxes, form) for form in stand or _FORMATS}
        shares = ", ".join(f"{form} {share:.0%}" for form, share in fitting.items())
        good = [form for form, share in fitting.items() if share >= 1 - SOME]
        if len(good) == 1:
            return good[0], f"{outside}; {name}: {shares}"
        stand = good or stand
    if usual in (stand or _FORMATS):
        assert usual is not None
        return usual, f"as {usual_of} has it; {outside}"
    raise UserError(
        f"data.box_format auto: the boxes could be {_one_of(stand)} ({outside}). Look at one box in its image, and "
        "give --data.box_format xywh (corner and size), xyxy (two corners) or cxcywh (center and size)."
    )


def _normalized(boxes: Boxes) -> tuple[BoxFormat, str]:
    """Decide boxes whose numbers are shares: they must be centers and sizes."""
    scaled = Boxes(boxes.numbers * np.tile(boxes.sizes, 2), boxes.sizes, boxes.areas, boxes.extents)
    reason = f"no number is above {NORMALIZED:g}, so they are shares of the image"
    try:
        form, evidence = _in_pixels(scaled, None, "")
    except UserError as error:
        raise UserError(
            f"data.box_format auto: {reason}, but nothing tells centers and sizes from corners. Give --data.box_format "
            "yolo if they are center and size, else change them to pixels."
        ) from error
    if form != "cxcywh":
        raise UserError(
            f"data.box_format auto: {reason}, and they seem to be {form} ({evidence}). Change them to pixels, or give "
            "--data.box_format yolo if they are center and size."
        )
    return "yolo", f"{reason}; {evidence}"


def _standing(wrong: dict[BoxFormat, float], usual: BoxFormat | None) -> list[BoxFormat]:
    stand = [form for form, share in wrong.items() if share <= (SOME if form == usual else FEW)]
    if not stand:  # a few bad boxes in a small set rule out none
        best, second = sorted(wrong, key=lambda form: wrong[form])[:2]
        if wrong[best] <= SOME and wrong[second] >= 10 * wrong[best]:
            return [best]
    return stand


def share_wrong(numbers: Array, sizes: Array, form: BoxFormat) -> float:
    """Return the share of boxes that leave their image or end before they begin."""
    corners = to_corners(numbers, sizes, form)
    slack = np.maximum(_SLACK[0], _SLACK[1] * sizes)
    inside_out = (corners[:, 2:] <= corners[:, :2]).any(1)
    outside = (corners[:, :2] < -slack).any(1) | (corners[:, 2:] > sizes + slack).any(1)
    return float((inside_out | outside).mean()) if len(corners) else 0.0


def _fit_masks(boxes: Boxes, form: BoxFormat) -> float:
    """Return the share of boxes with a mask that are near their mask's extent."""
    known = np.isfinite(boxes.extents).all(1)
    corners, extents = to_corners(boxes.numbers, boxes.sizes, form)[known], boxes.extents[known]
    slack = np.maximum(2.0, 0.1 * np.tile(extents[:, 2:] - extents[:, :2], 2))
    return float((np.abs(corners - extents) <= slack).all(1).mean()) if len(corners) else 0.0


def _are_areas(boxes: Boxes, form: BoxFormat) -> float:
    """Return the share of boxes whose area is the one given for them."""
    sides, areas = _sides_and_areas(boxes, form)
    slack = 0.01 * areas + sides.sum(1) + 1  # sides may have been rounded
    return float((np.abs(sides.prod(1) - areas) <= slack).mean()) if len(areas) else 0.0


def _hold_areas(boxes: Boxes, form: BoxFormat) -> float:
    """Return the share of boxes that hold the area given for them."""
    sides, areas = _sides_and_areas(boxes, form)
    return float(((sides + 1).prod(1) >= 0.99 * areas).mean()) if len(areas) else 0.0


def _sides_and_areas(boxes: Boxes, form: BoxFormat) -> tuple[Array, Array]:
    """Return width and height of boxes `(M, 2)` and the areas given for them, where they are."""
    known = np.isfinite(boxes.areas) & (boxes.areas > 0)
    corners = to_corners(boxes.numbers, boxes.sizes, form)[known]
    return np.maximum(corners[:, 2:] - corners[:, :2], 0), boxes.areas[known]


def _one_of(forms: Sequence[BoxFormat]) -> str:
    return " or ".join(forms) if forms else "none of xywh, xyxy and cxcywh"
