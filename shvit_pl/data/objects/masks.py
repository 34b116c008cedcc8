"""Masks as datasets write them: polygons, or runs (RLE) as numbers, text or bytes; to polygons or compressed runs."""

from collections.abc import Sequence
from dataclasses import dataclass
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
        elif isinstance(mask, list | tuple | np.ndarray) and len(mask):
            rings = [ring for ring in _rings(mask) if len(ring) >= _FEWEST]
            if are_shares:
                rings = [(ring.reshape(-1, 2) * sizes[index]).ravel() for ring in rings]
            if any(len(ring) % 2 or not np.isfinite(ring).all() for ring in rings):
                parsed.wrong[index] = "a ring of its polygon is not pairs of finite numbers"
            elif rings:
                parsed.polygons[index] = [ring.tolist() for ring in rings]
                corners = [ring.reshape(-1, 2) for ring in rings]
                every = np.concatenate(corners)
                area = sum(_area(ring) for ring in corners)
                if area > 0:
                    parsed.extents[index], parsed.areas[index] = [*every.min(0), *every.max(0)], area
    _add_runs(parsed, runs)
    return parsed


def _rings(mask: Any) -> list[NDArray[np.float64]]:
    """Return the rings of a polygon: of lists of numbers or of points, or of one list of numbers."""
    if not isinstance(mask[0], list | tuple | np.ndarray):
        return [np.asarray(mask, np.float64)]
    return [np.asarray(ring, np.float64).ravel() for ring in mask]


def _area(ring: NDArray[np.float64]) -> float:
    x, y = (ring - ring[0]).T
    return abs(float(x @ np.roll(y, 1) - y @ np.roll(x, 1))) / 2


def _add_runs(parsed: Masks, runs: Sequence[tuple[int, dict[str, Any]]]) -> None:
    if not runs:
        return
    library = run_library()
    for index, mask in runs:
        try:
            if isinstance(mask["counts"], list | tuple | np.ndarray):
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
