"""How the numbers came about: what all runs share, and the conditions under which each thing was measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from shvit_pl.designs.published import PaperRow
from shvit_pl.display.words import counted, join_distinct, joined, wrap_if_present
from shvit_pl.sweep.report.quantities import TRAINING
from shvit_pl.sweep.report.table import constants
from shvit_pl.sweep.results import Results

_DATASET_KEYS = ("path", "name", "revision", "image_size", "train_images", "validation_images", "validation")


def describe_conditions(results: Results, published: Sequence[PaperRow]) -> dict[str, str]:
    """Describe what all runs share, how things were measured, and what to bear in mind; by title."""
    runs = _summaries(results)
    facts = {
        "dataset": _dataset(runs),
        "training": joined(_trained(runs), training_setting(results)),
        "the same in all cells": joined(*(f"{flag} {value}" for flag, value in constants(results).items())),
        "accuracy": _accuracy(runs),
        "training images/s": _rate(runs),
        "peak memory": join_distinct(one.get("peak_memory_of") for one in runs),
        "inference speed": _inference(results),
        "the paper": _paper(published),
        "versions": _versions(runs),
    }
    return {name: text for name, text in facts.items() if text}


def training_setting(results: Results) -> str:
    """Describe device, batch and precision of the runs."""
    known = {
        key: join_distinct(one.get(key) for one in _summaries(results))
        for key in ("device", "global_batch", "precision")
    }
    return joined(known["device"], wrap_if_present("batch ", known["global_batch"]), known["precision"])


def inference_setting(results: Results) -> str:
    """Describe device, batch, type, image size and threads; empty before inference is measured."""
    measured: dict[str, Any] = (results.speed or {}).get("conditions") or {}
    known = {key: join_distinct([value]) for key, value in measured.items()}
    return joined(
        known.get("device", ""),
        wrap_if_present("batch ", known.get("batch", "")),
        known.get("dtype", ""),
        wrap_if_present("", known.get("image_size", ""), " px"),
        counted(known.get("threads", ""), "thread"),
    )


def _summaries(results: Results) -> list[dict[str, Any]]:
    """Return the summaries of all runs that are done."""
    return [run.summary for cell in results.cells for run in cell.done if run.summary]


def _dataset(runs: list[dict[str, Any]]) -> str:
    data = [one.get("dataset") or {} for one in runs]
    known = {key: join_distinct(one.get(key) for one in data) for key in _DATASET_KEYS}
    images = [known["train_images"], known["validation_images"]]
    return joined(
        " ".join(filter(None, (known["path"], known["name"], known["revision"]))),
        wrap_if_present("", known["image_size"], " px"),
        f"{images[0]} training and {images[1]} validation images" if all(images) else "",
        known["validation"],
    )


def _trained(runs: list[dict[str, Any]]) -> str:
    """Describe the length of the trainings, and the images seen, which limited batches may have cut."""
    steps = [(one, one["steps_trained"]) for one in runs if one.get("steps_trained") and one.get("global_batch")]
    seen = [(one, count * one["global_batch"]) for one, count in steps]
    available = [(count, (one.get("dataset") or {}).get("train_images") or 0) for one, count in seen]
    less = any(count < images for count, images in available)
    return joined(
        counted(join_distinct(one.get("epochs_trained", one.get("epochs")) for one in runs), "epoch"),
        counted(join_distinct(count for _, count in steps), "step"),
        wrap_if_present(
            "", join_distinct(count for _, count in seen), f" images seen{', fewer than there are' if less else ''}"
        ),
    )


def _accuracy(runs: list[dict[str, Any]]) -> str:
    monitor = join_distinct(one.get("monitor") for one in runs)
    return wrap_if_present(
        "each run's best epoch by ", monitor,
        ", chosen on the same validation images that are reported, which biases all cells upward equally; "
        "± is the standard deviation over seeds",
    )  # fmt: skip


def _rate(runs: list[dict[str, Any]]) -> str:
    if not any(one.get(TRAINING) for one in runs):
        return ""
    return "measured in each run, data loading included; the number of runs that shared the machine is unknown"


def _inference(results: Results) -> str:
    measured = (results.speed or {}).get("conditions") or {}
    if not measured:
        return ""
    setting = joined(
        inference_setting(results),
        measured.get("layout") or "",
        counted(measured.get("rounds") or "", "round"),
        wrap_if_present("torch ", measured.get("torch") or ""),
        "BatchNorm fused" if measured.get("fused") else "not fused",
    )
    return f"{setting}; median, with the quartiles of the rounds in a cell's panel"


def _paper(published: Sequence[PaperRow]) -> str:
    conditions = "; ".join(dict.fromkeys(row.conditions for row in published))
    return wrap_if_present("as published, under its own conditions: ", conditions, "; not drawn next to ours")


def _versions(runs: list[dict[str, Any]]) -> str:
    names = dict.fromkeys(name for one in runs for name in one.get("versions") or {})
    known = {name: join_distinct((one.get("versions") or {}).get(name) for one in runs) for name in names}
    return joined(*(f"{name} {version}" for name, version in known.items()))
