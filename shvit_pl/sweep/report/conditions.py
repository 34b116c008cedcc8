"""How the numbers came about: what all runs share, and under which conditions what was measured."""

from __future__ import annotations

from typing import Any

from shvit_pl.display.words import around, counted, different, joined
from shvit_pl.sweep.report.factors import constants
from shvit_pl.sweep.report.quantities import TRAINING
from shvit_pl.sweep.report.rows import Row
from shvit_pl.sweep.results import Results

_OF_A_DATASET = ("path", "name", "revision", "image_size", "train_images", "validation_images", "validation")


def conditions(results: Results, rows: list[Row]) -> dict[str, str]:
    """What all runs share, what was measured how, and what to bear in mind; by title."""
    runs = _summaries(results)
    facts = {
        "dataset": _dataset(runs),
        "training": joined(_trained(runs), training_setting(results)),
        "the same in all cells": joined(*(f"{flag} {value}" for flag, value in constants(results).items())),
        "accuracy": _accuracy(runs),
        "training images/s": _rate(runs),
        "peak memory": different(one.get("peak_memory_of") for one in runs),
        "inference speed": _inference(results),
        "the paper": _paper(rows),
        "versions": _versions(runs),
    }
    return {name: text for name, text in facts.items() if text}


def training_setting(results: Results) -> str:
    """Device, batch and precision of the runs."""
    known = {
        key: different(one.get(key) for one in _summaries(results)) for key in ("device", "global_batch", "precision")
    }
    device = known["device"].replace("(1 threads)", "(1 thread)")  # as earlier summaries have it
    return joined(device, around("batch ", known["global_batch"]), known["precision"])


def inference_setting(results: Results) -> str:
    """Device, batch, type, size of the images and threads; empty before it is measured."""
    measured: dict[str, Any] = (results.speed or {}).get("conditions") or {}
    known = {key: different([value]) for key, value in measured.items()}
    return joined(
        known.get("device", ""),
        around("batch ", known.get("batch", "")),
        known.get("dtype", ""),
        around("", known.get("image_size", ""), " px"),
        counted(known.get("threads", ""), "thread"),
    )


def _summaries(results: Results) -> list[dict[str, Any]]:
    """Of all runs that are done."""
    return [run.summary for cell in results.cells for run in cell.done if run.summary]


def _dataset(runs: list[dict[str, Any]]) -> str:
    data = [one.get("dataset") or {} for one in runs]
    known = {key: different(one.get(key) for one in data) for key in _OF_A_DATASET}
    images = [known["train_images"], known["validation_images"]]
    return joined(
        " ".join(filter(None, (known["path"], known["name"], known["revision"]))),
        around("", known["image_size"], " px"),
        f"{images[0]} training and {images[1]} validation images" if all(images) else "",
        known["validation"],
    )


def _trained(runs: list[dict[str, Any]]) -> str:
    """How long, and on how many images, which are fewer than there are where batches are limited."""
    steps = [(one, one["steps_trained"]) for one in runs if one.get("steps_trained") and one.get("global_batch")]
    seen = [(one, count * one["global_batch"]) for one, count in steps]
    available = [(count, (one.get("dataset") or {}).get("train_images") or 0) for one, count in seen]
    less = any(count < images for count, images in available)
    return joined(
        counted(different(one.get("epochs_trained", one.get("epochs")) for one in runs), "epoch"),
        counted(different(count for _, count in steps), "step"),
        around("", different(count for _, count in seen), f" images seen{', fewer than there are' if less else ''}"),
    )


def _accuracy(runs: list[dict[str, Any]]) -> str:
    monitor = different(one.get("monitor") for one in runs)
    return around(
        "each run's best epoch by ", monitor,
        ", chosen on the same validation images that it is stated for, which flatters all cells alike; "
        "± is the standard deviation over seeds",
    )  # fmt: skip


def _rate(runs: list[dict[str, Any]]) -> str:
    if not any(one.get(TRAINING) for one in runs):
        return ""
    return "each run's own, loading included; how many runs shared the machine meanwhile is not known"


def _inference(results: Results) -> str:
    measured = (results.speed or {}).get("conditions") or {}
    if not measured:
        return ""
    setting = joined(
        inference_setting(results),
        measured.get("layout") or "",
        counted(measured.get("rounds") or "", "round"),
        around("torch ", measured.get("torch") or ""),
        "BatchNorm fused" if measured.get("fused") else "not fused",
    )
    return f"{setting}; median, with the quartiles of the rounds in a cell's panel"


def _paper(rows: list[Row]) -> str:
    published = dict.fromkeys(row.paper.conditions for row in rows if row.paper)
    return around("as published, under conditions of its own: ", "; ".join(published), "; never drawn beside ours")


def _versions(runs: list[dict[str, Any]]) -> str:
    names = dict.fromkeys(name for one in runs for name in one.get("versions") or {})
    known = {name: different((one.get("versions") or {}).get(name) for one in runs) for name in names}
    return joined(*(f"{name} {version}" for name, version in known.items()))
