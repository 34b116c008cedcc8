"""Opening the annotations of a sixth of COCO: the first time, later, and by pycocotools as torchvision does."""

from __future__ import annotations

import json
import multiprocessing
import os
import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from jsonargparse import auto_cli
from PIL import Image

from benchmarks.report import environment, publish, table

_WIDTH, _HEIGHT = 640, 480
_POINTS = 22  # of a polygon, about COCO's mean
_CLASSES = 80
_PAGE = os.sysconf("SC_PAGE_SIZE")


def main(images: int = 20_000, objects: int = 146_000, rounds: int = 5, out: Path = Path("benchmarks/results")) -> None:
    """Measure all ways, print the table, and write it to `out`.

    Args:
        images: Images, of which a tenth are for validation.
        objects: Objects in them, each with a polygon.
        rounds: Rounds, in each of which every way opens the annotations once, in a new process.
        out: Folder of the results.
    """
    with TemporaryDirectory() as place:
        folder = Path(place, "coco")
        megabytes = _write(folder, images, objects)
        ways = {"pycocotools": _pycocotools, "first opening": _first, "later opening": _first}
        found: dict[str, list[dict[str, float]]] = {name: [] for name in ways}
        for number in range(rounds):
            for name, way in ways.items():
                found[name].append(_in_new_process(way, folder, Path(place, f"cache{number}")))
    text = table(("way", "s", "CPU s", "MB resident"), [_row(name, figures) for name, figures in found.items()])
    title = f"Opening {objects} objects in {images} images, {megabytes:.0f} MB of JSON"
    packages = ["datasets", "pyarrow", "pycocotools"]
    publish(out / "open_objects", title, text, environment(packages), images=images, objects=objects, figures=found)


def _write(folder: Path, images: int, objects: int) -> float:
    """Write such a dataset in COCO's format; returns the MB of its JSON."""
    generator = np.random.default_rng(0)
    file = BytesIO()
    Image.new("RGB", (_WIDTH, _HEIGHT)).save(file, "JPEG")
    categories = [{"id": number + 1, "name": f"class {number}"} for number in range(_CLASSES)]
    megabytes = 0.0
    for split, count in (("train2017", images - images // 10), ("val2017", images // 10)):
        (folder / split).mkdir(parents=True)
        entries, annotations = [], []
        for number in range(count):
            name = f"{number:012}.jpg"
            (folder / split / name).write_bytes(file.getvalue() + f"{split}{number}".encode())  # no two are the same
            entries.append({"id": number, "file_name": name, "width": _WIDTH, "height": _HEIGHT})
        for number, image in enumerate(np.sort(generator.integers(0, count, objects * count // images))):
            annotations.append(annotation(generator, number, int(image)))
        content = {"images": entries, "annotations": annotations, "categories": categories}
        path = folder / "annotations" / f"instances_{split}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(content))
        megabytes += path.stat().st_size / 1e6
    return megabytes


def annotation(generator: np.random.Generator, number: int, image: int) -> dict[str, Any]:
    """An object of COCO's JSON, with a polygon."""
    side = generator.uniform(10, 200, 2)
    corner = generator.uniform(0, 1, 2) * ((_WIDTH, _HEIGHT) - side)
    angles = np.linspace(0, 2 * np.pi, _POINTS, endpoint=False)
    points = (corner + side / 2 * (1 + np.stack([np.cos(angles), np.sin(angles)], axis=1))).round(2)
    box = [round(float(each), 2) for each in (*corner, *side)]
    own = {"bbox": box, "area": round(0.78 * box[2] * box[3], 3), "iscrowd": 0}
    own |= {"segmentation": [points.ravel().tolist()]}
    return {"id": number, "image_id": image, "category_id": int(generator.integers(_CLASSES)) + 1, **own}


def _in_new_process(way: Callable[[Path], Any], folder: Path, cache: Path) -> dict[str, float]:
    context = multiprocessing.get_context("spawn")
    results: multiprocessing.Queue[dict[str, float]] = context.Queue()
    process = context.Process(target=_measured, args=(way, folder, cache, results))
    process.start()
    figures = results.get()
    process.join()
    return figures


def _measured(way: Callable[[Path], Any], folder: Path, cache: Path, results: Any) -> None:
    """Open, and report seconds and memory beyond what the imports took."""
    import datasets
    import pycocotools.coco  # noqa: F401

    import shvit_pl.data.objects.opening  # noqa: F401

    datasets.config.HF_DATASETS_CACHE = cache
    before, start, start_cpu = _resident(), time.perf_counter(), time.process_time()
    opened = way(folder)
    seconds, cpu = time.perf_counter() - start, time.process_time() - start_cpu
    results.put({"seconds": seconds, "cpu_seconds": cpu, "resident_megabytes": _resident() - before})
    del opened


def _resident() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE / 1e6


def _pycocotools(folder: Path) -> Any:
    from pycocotools.coco import COCO

    return [COCO(str(file)) for file in sorted(folder.glob("annotations/*.json"))]


def _first(folder: Path) -> Any:
    from shvit_pl.data.objects.config import ObjectsConfig
    from shvit_pl.data.objects.opening import open_objects

    return open_objects(ObjectsConfig(path=str(folder)))


def _row(name: str, figures: list[dict[str, float]]) -> list[str]:
    middle = {key: median(each[key] for each in figures) for key in figures[0]}
    figures_of_row = (middle["seconds"], middle["cpu_seconds"])
    return [name, *(f"{each:.2f}" for each in figures_of_row), f"{middle['resident_megabytes']:.0f}"]


if __name__ == "__main__":
    auto_cli(main)
