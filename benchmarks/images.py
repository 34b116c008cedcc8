"""Generated JPEGs of a photograph's size and texture, as a folder of images and as parquet."""

from __future__ import annotations

from pathlib import Path

import datasets
import numpy as np
from datasets import ClassLabel, Dataset, Features
from PIL import Image

WIDTH, HEIGHT = 500, 375  # the most frequent size of ImageNet's images
_QUALITY = 93
_OCTAVES = ((8, 36), (32, 24), (96, 14), (250, 8), (500, 5))  # grid points across, and contrast in levels
_CLASSES = ("cat", "dog")
_HELD_OUT = 8  # images for validation, so that all the others train


def photograph(generator: np.random.Generator, width: int = WIDTH, height: int = HEIGHT) -> Image.Image:
    """Smooth noise of several scales: it compresses like a photograph (about 80 kB here)."""
    pixels = np.full((height, width, 3), 128, np.float32)
    for points, contrast in _OCTAVES:
        grid = generator.normal(size=(max(2, points * height // width), points, 3)).astype(np.float32)
        for channel in range(3):
            plane = Image.fromarray(grid[..., channel]).resize((width, height), Image.Resampling.BICUBIC)
            pixels[..., channel] += contrast * np.asarray(plane)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def write_images(root: Path, images: int, seed: int = 0) -> tuple[Path, Path]:
    """Write `images` training JPEGs of two classes.

    Returns:
        The folder of images, and the folder of parquet files with the same bytes; both with `train` and `validation`.
    """
    generator = np.random.default_rng(seed)
    folder, parquet = root / "folder", root / "parquet"
    parquet.mkdir(parents=True)
    for split, count in (("train", images), ("validation", _HELD_OUT)):
        for number in range(count):
            file = folder / split / _CLASSES[number % 2] / f"{number:05}.jpg"
            file.parent.mkdir(parents=True, exist_ok=True)
            photograph(generator).save(file, quality=_QUALITY)
        _with_bytes(folder / split).to_parquet(parquet / f"{split}-00000.parquet")
    return folder, parquet


def _with_bytes(folder: Path) -> Dataset:
    files = sorted(folder.rglob("*.jpg"))
    rows = {
        "image": [{"bytes": file.read_bytes(), "path": file.name} for file in files],
        "label": [file.parent.name for file in files],
    }
    return Dataset.from_dict(rows, features=Features(image=datasets.Image(), label=ClassLabel(names=list(_CLASSES))))


def mean_kilobytes(folder: Path) -> float:
    """Mean size of a folder's JPEGs in kB (1000 bytes)."""
    return float(np.mean([file.stat().st_size for file in folder.rglob("*.jpg")])) / 1000
