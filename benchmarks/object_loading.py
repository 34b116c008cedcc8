"""Images with objects per second of one core: read, resized to 800 x 1333 and flipped, with boxes and with masks.

Beside the same by torchvision: `CocoDetection`, wrapped for its transforms v2, on uint8; and as its reference scripts
train detectors, on floats, which the detector itself resizes. Each round reads all images once in every way; the
seconds are those of the processor.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import datasets
import numpy as np
import torch
from jsonargparse import auto_cli
from torchvision.datasets import CocoDetection, wrap_dataset_for_transforms_v2
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.transforms import v2

from benchmarks.images import photograph
from benchmarks.open_objects import annotation
from benchmarks.report import environment, publish, table
from shvit_pl.data.loaders import Draw
from shvit_pl.data.objects.datamodule import ObjectsDataModule

_SIZE = 640, 480
_OBJECTS = 7  # of an image, as in COCO


def main(images: int = 64, rounds: int = 5, out: Path = Path("benchmarks/results")) -> None:
    """Measure, print the table, and write it to `out`.

    Args:
        images: Images of 640 x 480 pixels with seven objects each.
        rounds: Repetitions; the medians are told.
        out: Folder of the results.
    """
    torch.set_num_threads(1)
    with TemporaryDirectory() as place:
        datasets.config.HF_DATASETS_CACHE = Path(place, "cache")
        folder = _write(Path(place, "coco"), images)
        ways: dict[str, Callable[[], int]] = {}
        for masks in (False, True):
            kind = "boxes and masks" if masks else "boxes"
            ways[f"{kind}, shvit-pl"] = _ours(folder, masks)
            ways[f"{kind}, torchvision"] = _torchvision(folder, masks)
            ways[f"{kind}, its reference"] = _reference(folder, masks)
        rates: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(rounds):
            for name, way in ways.items():
                start = time.process_time()
                rates[name].append(way() / (time.process_time() - start))
    rows = []
    for kind in ("boxes", "boxes and masks"):
        ours = rates[f"{kind}, shvit-pl"]
        row = [kind, f"{median(ours):.0f}"]
        for other in ("torchvision", "its reference"):
            theirs = rates[f"{kind}, {other}"]
            ratio = median(own / one for own, one in zip(ours, theirs, strict=True))
            row += [f"{median(theirs):.0f}", f"{ratio:.1f}"]
        rows.append(row)
    header = [
        "images per second of a core",
        "shvit-pl",
        "torchvision, uint8",
        "ratio",
        "its reference, floats",
        "ratio",
    ]
    text = table(header, rows)
    packages = ["torch", "torchvision", "datasets", "faster-coco-eval", "pycocotools"]
    title = "Loading images with objects"
    publish(out / "object_loading", title, text, environment(packages), images=images, rates=rates)


def _write(folder: Path, images: int) -> Path:
    generator = np.random.default_rng(0)
    for split in ("train2017", "val2017"):
        (folder / split).mkdir(parents=True)
        entries, annotations = [], []
        for number in range(images if split == "train2017" else 1):
            name = f"{number:012}.jpg"
            photograph(generator, *_SIZE).save(folder / split / name, quality=93)
            entries.append({"id": number, "file_name": name, "width": _SIZE[0], "height": _SIZE[1]})
            annotations += [annotation(generator, len(annotations) + each, number) for each in range(_OBJECTS)]
        categories = [{"id": number + 1, "name": f"class {number}"} for number in range(80)]
        content = {"images": entries, "annotations": annotations, "categories": categories}
        (folder / "annotations").mkdir(exist_ok=True)
        (folder / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
    return folder


def _ours(folder: Path, masks: bool) -> Callable[[], int]:
    data = ObjectsDataModule(str(folder), flip=0.5, num_workers=0)
    data.with_masks = masks
    data.setup("fit")
    dataset = data.train_dataloader().dataset

    def read() -> int:
        count = len(data.chosen.by_stage["train"])
        for row in range(count):
            dataset[Draw(row, (0, 0, row))]
        return count

    return read


def _torchvision(folder: Path, masks: bool) -> Callable[[], int]:
    transform = v2.Compose([v2.ToImage(), v2.Resize(800, max_size=1333, antialias=True), v2.RandomHorizontalFlip()])
    return _read_all(folder, masks, transform)


def _reference(folder: Path, masks: bool) -> Callable[[], int]:
    transform = v2.Compose([v2.RandomHorizontalFlip(), v2.ToImage(), v2.ToDtype(torch.float, scale=True)])
    resize = GeneralizedRCNNTransform(800, 1333, [0.0] * 3, [1.0] * 3).resize
    return _read_all(folder, masks, transform, resize)


def _read_all(
    folder: Path, masks: bool, transform: Callable[..., Any], resize: Callable[..., Any] = lambda *item: item
) -> Callable[[], int]:
    file = os.fspath(folder / "annotations" / "instances_train2017.json")
    raw = CocoDetection(folder / "train2017", file, transforms=transform)
    keys = ["boxes", "labels", *(["masks"] if masks else [])]
    wrapped = wrap_dataset_for_transforms_v2(raw, target_keys=keys)

    def read() -> int:
        for index in range(len(wrapped)):
            resize(*wrapped[index])
        return len(wrapped)

    return read


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
