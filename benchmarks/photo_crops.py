"""A small, hard dataset of real pictures: from which photograph is this crop?

scikit-image carries 15 photographs and micrographs in its package. Training crops come from the left part of each,
validation crops from the right part, with a gap between: no pixel is in both.

    python -m benchmarks.photo_crops --folder crops
    shvit-pl fit --config s1.yaml --data.path crops
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from jsonargparse import auto_cli
from PIL import Image

from shvit_pl.errors import UserError

PHOTOGRAPHS = (
    "astronaut.png",
    "brick.png",
    "camera.png",
    "cell.png",
    "chelsea.png",
    "coffee.png",
    "coins.png",
    "grass.png",
    "gravel.png",
    "hubble_deep_field.jpg",
    "ihc.png",
    "moon.png",
    "motorcycle_left.png",
    "retina.jpg",
    "rocket.jpg",
)
GAP = 16  # pixels between the parts
SIDES = (64, 128)  # of crops in the photograph, in pixels: the least and the largest
Box = tuple[int, int, int, int]  # left, upper, right, lower


def main(
    folder: Path = Path("crops"),
    crops: int = 60,
    validation_crops: int = 20,
    size: int = 64,
    gray: bool = False,
    seed: int = 0,
    photographs: tuple[str, ...] = PHOTOGRAPHS,
) -> None:
    """Write `train/PHOTOGRAPH/*.png` and `validation/PHOTOGRAPH/*.png`.

    Args:
        folder: Where to; a new or empty folder.
        crops: Training crops of each photograph.
        validation_crops: Validation crops of each photograph.
        size: Side of the written images in pixels.
        gray: Write them gray, which is harder: seven of the photographs are gray, and eight have colors of their own.
        seed: Of the crops' places and scales.
        photographs: The files of scikit-image to take.
    """
    if folder.is_dir() and any(folder.iterdir()):
        raise UserError(f"--folder {folder}: it is not empty; give a new one.")
    counts = {"train": crops, "validation": validation_crops}
    for name in photographs:
        picture = Image.open(pictures() / name).convert("L" if gray else "RGB")
        generator = np.random.default_rng((seed, PHOTOGRAPHS.index(name)))
        for (split, count), part in zip(counts.items(), parts(*picture.size), strict=True):
            place = folder / split / Path(name).stem
            place.mkdir(parents=True)
            for index, box in enumerate(boxes(part, count, generator)):
                picture.crop(box).resize((size, size)).save(place / f"{index:04}.png")
    print(f"{folder}: {len(photographs)} classes; of each {crops} training and {validation_crops} validation images")


def pictures() -> Path:
    """The folder of scikit-image's pictures; raises `UserError` where it is not installed."""
    package = find_spec("skimage")
    if package is None or package.origin is None:
        raise UserError("scikit-image is not installed; pip install scikit-image.")
    return Path(package.origin).parent / "data"


def parts(width: int, height: int) -> tuple[Box, Box]:
    """The left part of a picture and the right one."""
    middle = width // 2
    return (0, 0, middle - GAP // 2, height), (middle + GAP // 2, 0, width, height)


def boxes(part: Box, count: int, generator: np.random.Generator) -> Iterator[Box]:
    """Squares at random places in `part`."""
    left, upper, right, lower = part
    for _ in range(count):
        side = int(generator.integers(SIDES[0], SIDES[1] + 1))
        x = int(generator.integers(left, right - side + 1))
        y = int(generator.integers(upper, lower - side + 1))
        yield x, y, x + side, y + side


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
