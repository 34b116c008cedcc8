"""Seconds of the evaluation of detections, per class too: ours, and torchmetrics' default, which is pycocotools.

Boxes are random around random objects. The two run in turns, and must agree; seconds are the processor's.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from jsonargparse import auto_cli
from torchmetrics.detection import MeanAveragePrecision

from benchmarks.report import environment, publish, table
from shvit_pl.modules.average_precision import AveragePrecision

_PACKAGES = ("torch", "torchmetrics", "faster-coco-eval", "pycocotools", "numpy")
_CLOSE = 1e-3  # torchmetrics' thresholds are in single precision
Set = tuple[list[dict[str, Any]], list[dict[str, Any]]]


def main(
    images: int = 1000,
    detections: int = 100,
    classes: int = 80,
    rounds: int = 3,
    out: Path = Path("benchmarks/results"),
) -> None:
    """Measure both, print the table, and write it to `out`.

    Args:
        images: Number of images.
        detections: Detections of an image.
        classes: Number of classes.
        rounds: Rounds, in each of which both run once.
        out: Folder of the results.
    """
    found, truth = _draw(images, detections, classes)
    ways: dict[str, Callable[[], float]] = {
        "torchmetrics' default": lambda: _theirs(found, truth),
        "ours": lambda: _ours(found, truth, classes),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        values = []
        for name, measure in ways.items():
            start = time.process_time()
            values.append(measure())
            seconds[name].append(time.process_time() - start)
        assert abs(values[0] - values[1]) < _CLOSE, values
    theirs, ours = seconds.values()
    ratio = median(ours[index] / theirs[index] for index in range(rounds))
    rows = [[name, f"{median(found):.2f}", f"{median(found) / median(theirs):.3f}"] for name, found in seconds.items()]
    text = table(["evaluation", "CPU s", "of the default"], rows) + (
        f"\n\n{images} images, {detections} detections each, {classes} classes, with the average precision of each "
        f"class; medians of {rounds} rounds. The ratio, round by round: {ratio:.3f}."
    )
    publish(out / "average_precision", "Average precision", text, environment(_PACKAGES), seconds=seconds)


def _draw(images: int, detections: int, classes: int) -> Set:
    """Draw images of seven objects, and detections, of which a third are of an object and near it."""
    draw = np.random.default_rng(0)
    found, truth = [], []
    for number in range(images):
        boxes, labels = _boxes(draw, 7), draw.integers(0, classes, 7)
        guesses, guessed = _boxes(draw, detections), draw.integers(0, classes, detections)
        near = detections // 3
        of = draw.integers(0, 7, near)
        guesses[:near], guessed[:near] = boxes[of] + draw.uniform(-6, 6, (near, 4)), labels[of]
        scores = draw.uniform(0, 1, detections)
        found.append({"boxes": guesses, "labels": guessed, "scores": scores.astype(np.float32)})
        sides = boxes[:, 2:] - boxes[:, :2]
        truth.append({"boxes": boxes, "labels": labels, "area": sides.prod(axis=1), "iscrowd": np.zeros(7, np.int64)})
        for each in (found[-1], truth[-1]):
            each.update({name: torch.from_numpy(values) for name, values in each.items()})
        truth[-1].update(image_id=str(number), size=(480, 640))
    return found, truth


def _boxes(draw: np.random.Generator, count: int) -> Any:
    corners = draw.uniform(0, (500, 350), (count, 2))
    return np.concatenate([corners, corners + draw.uniform(15, 130, (count, 2))], axis=1).astype(np.float32)


def _ours(found: Any, truth: Any, classes: int) -> float:
    metric = AveragePrecision(classes)
    metric.update(found, truth)
    return metric.compute().metrics["map"]


def _theirs(found: Any, truth: Any) -> float:
    metric = MeanAveragePrecision(class_metrics=True)
    metric.update(found, truth)
    return float(metric.compute()["map"])


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
