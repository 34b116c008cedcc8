"""Masks as datasets write them: polygons, or runs (RLE) as numbers, text or bytes; to polygons or compressed runs."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shvit_pl.errors import UserError

_FEWEST = 6  # numbers of a ring: three points


@dataclass
class Masks:
    """The masks of all objects, by object."""

    polygons: list[list[list[float]]]
    """Rings x1, y1, x2, y2, ...; none where there is a run or no mask."""
    runs: list[str]
    """COCO's compressed runs; '' where there are polygons or no mask."""
    extents: NDArray[np.float64]
    """`(N, 4)`: xyxy; NaN where there is no mask, or an empty one."""
    areas: NDArray[np.float64]
    """`(N,)`: pixels; NaN likewise."""
    wrong: dict[int, str]
    """Objects whose mask can't be one, with the reason."""

    @property
    def are_there(self) -> NDArray[np.bool_]:
        """By object, whether it has a mask with pixels."""
        return np.isfinite(self.areas)


def parse_masks(masks: Sequence[Any], sizes: NDArray[np.float64], are_shares: bool = False) -> Masks:
    """Read masks; `sizes` `(N, 2)` are widths and heights of their images, NaN where unknown.

    With `are_shares`, polygons are given in shares of them.

    A ring of less than three points is left out; a mask without a ring or a pixel is none.
    """
    count = len(masks)
    parsed = Masks([[] for _ in masks], [""] * count, np.full((count, 4), np.nan), np.full(count, np.nan), {})
    runs: list[tuple[int, dict[str, Any]]] = []
    rings: list[tuple[int, Sequence[float]]] = []
    for index, mask in enumerate(masks):
        if are_shares and np.isnan(sizes[index]).any():
            continue
        if isinstance(mask, dict) and mask.get("counts"):
            height, width = (int(side) for side in mask.get("size") or (0, 0))
            expected = tuple(sizes[index])
            if not np.isnan(expected).any() and (width, height) != expected:
                parsed.wrong[index] = f"{width} x {height} pixels, and its image {expected[0]:g} x {expected[1]:g}"
                continue
            runs.append((index, {"size": [height, width], "counts": mask["counts"]}))
        elif isinstance(mask, list | tuple) and mask:
            rings += [(index, ring) for ring in _rings(mask) if len(ring) >= _FEWEST]
    _add_polygons(parsed, rings, sizes if are_shares else None)
    _add_runs(parsed, runs)
    return parsed


def _rings(mask: Sequence[Any]) -> Iterator[Sequence[float]]:
    """Yield the rings of a polygon: of lists of numbers or of points, or of one list of numbers."""
    for ring in mask if isinstance(mask[0], list | tuple) else [mask]:
        points = isinstance(ring, list | tuple) and len(ring) and isinstance(ring[0], list | tuple)
        yield list(chain.from_iterable(ring)) if points else ring


def _add_polygons(
    parsed: Masks, rings: Sequence[tuple[int, Sequence[float]]], scales: NDArray[np.float64] | None
) -> None:
    """Add all rings at once, as there are many."""
    points = _numbers(rings)
    if points is None:  # one of them is wrong
        for index, ring in rings:
            if _numbers([(index, ring)]) is None:
                parsed.wrong[index] = "a ring of its polygon is not pairs of finite numbers"
        return
    if not rings:
        return
    owners = np.array([index for index, _ in rings])
    counts = np.array([len(ring) // 2 for _, ring in rings])
    if scales is not None:
        points = points * np.repeat(scales[owners], counts, axis=0)
    ends = np.cumsum(counts)
    starts = ends - counts
    following = np.arange(1, len(points) + 1)
    following[ends - 1] = starts
    moved = points - np.repeat(points[starts], counts, axis=0)  # exact also far from the origin
    crosses = moved[:, 0] * moved[following, 1] - moved[following, 0] * moved[:, 1]
    areas = np.bincount(owners, np.abs(np.add.reduceat(crosses, starts)) / 2, len(parsed.areas))
    low, high = np.full((len(areas), 2), np.inf), np.full((len(areas), 2), -np.inf)
    np.minimum.at(low, owners, np.minimum.reduceat(points, starts))
    np.maximum.at(high, owners, np.maximum.reduceat(points, starts))
    filled = areas > 0
    parsed.areas[filled], parsed.extents[filled] = areas[filled], np.concatenate([low, high], axis=1)[filled]
    numbers = points.ravel().tolist()
    for owner, start, end in zip(owners.tolist(), (2 * starts).tolist(), (2 * ends).tolist(), strict=True):
        parsed.polygons[owner].append(numbers[start:end])


def _numbers(rings: Sequence[tuple[int, Sequence[float]]]) -> NDArray[np.float64] | None:
    """Return the points of all rings `(P, 2)`; None where a ring is not pairs of finite numbers."""
    if any(len(ring) % 2 for _, ring in rings):
        return None
    try:
        points = np.fromiter(chain.from_iterable(ring for _, ring in rings), np.float64).reshape(-1, 2)
    except (TypeError, ValueError):
        return None
    return points if np.isfinite(points).all() else None


def _add_runs(parsed: Masks, runs: Sequence[tuple[int, dict[str, Any]]]) -> None:
    if not runs:
        return
    library = run_library()
    for index, mask in runs:
        try:
            if isinstance(mask["counts"], list | tuple):
                counts = [int(count) for count in mask["counts"]]
                if sum(counts) != mask["size"][0] * mask["size"][1] or min(counts) < 0:
                    parsed.wrong[index] = "its runs don't add up to its size"
                    continue
                mask = library.frPyObjects({**mask, "counts": counts}, *mask["size"])
            counts = mask["counts"]
            text = counts if isinstance(counts, str) else bytes(counts).decode("ascii")
            coded = {"size": mask["size"], "counts": text.encode()}
            x, y, width, height = (float(number) for number in library.toBbox([coded])[0])
            area = float(library.area([coded])[0])
        except (ValueError, TypeError, UnicodeError, RuntimeError) as error:
            parsed.wrong[index] = f"its runs can't be read ({error})"
            continue
        if area > 0:
            parsed.runs[index] = text
            parsed.extents[index], parsed.areas[index] = [x, y, x + width, y + height], area


def run_library() -> Any:
    """Return the functions of COCO's runs; raises `UserError` where the library is not installed."""
    try:
        from faster_coco_eval.core import mask
    except ImportError as error:
        raise UserError(
            "data.path: its masks are runs (RLE), which needs faster-coco-eval: pip install 'shvit-pl[detection]'."
        ) from error
    return mask
