"""Inference speed of a sweep's cells, all measured in one go."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from shvit_pl.deploy.measuring import device_name
from shvit_pl.deploy.optimization import NotCompiledError, compiled
from shvit_pl.deploy.options import PAPER_BATCH
from shvit_pl.deploy.timing import Progress, images_per_second
from shvit_pl.designs.design import Fingerprint, design_of, fingerprint
from shvit_pl.models import SHViT

_LAYOUT = torch.channels_last
_Key = tuple[Fingerprint, int, int]  # a network, its classes, and the side of its images in pixels


def measure_speed(
    cells: Mapping[str, Mapping[str, Any]],
    batch: int | None = None,
    device: torch.device | str | None = None,
    rounds: int = 7,
    seconds: float = 0.3,
    compiling: bool = True,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Measure the network of every cell, in float32, channels-last, BatchNorm fused and two classifiers merged to one.

    Cells of the same network and image size share one measurement. Weights are fresh: speed does not depend on them.

    Args:
        cells: The `summary.json` of a run of each cell.
        batch: Images per batch (default: the paper's, 256 on a GPU, 16 on a CPU).
        device: The device that computes (default: the GPU where there is one).
        rounds: Rounds, in each of which every network is measured once, eager and compiled.
        seconds: Least time of one measurement.
        compiling: Measure every network compiled by `torch.compile` too.
        progress: Called after each step with its name, the steps done and all steps.

    Returns:
        `conditions` (device, batch, ...), and by cell the medians and quartiles of images per second.
    """
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    batch = batch or PAPER_BATCH[device.type]
    measured, models = {}, dict[_Key, nn.Module]()
    for name, summary in cells.items():
        design, classes = design_of(summary), len(summary["classes"])
        measured[name] = key = fingerprint(design), classes, summary["dataset"]["image_size"]
        if key not in models:
            model: nn.Module = SHViT(replace(design, distilled=False), num_classes=classes).eval().fuse()
            models[key] = model.to(device).to(memory_format=_LAYOUT)
    sizes = sorted({size for *_, size in models})
    batches = {size: torch.randn(batch, 3, size, size).to(device, memory_format=_LAYOUT) for size in sizes}
    images = {key: batches[key[2]] for key in models}
    try:
        fast, reasons = dict[_Key, nn.Module](), dict.fromkeys(models, "not asked for")
        if compiling:
            fast, reasons = _compile(models, images, progress)
        turns = {(key, "eager"): one for key, one in models.items()}
        turns |= {(key, "compiled"): one for key, one in fast.items()}
        rates = images_per_second(turns, {turn: images[turn[0]] for turn in turns}, rounds, seconds, progress)
    finally:
        torch.compiler.reset()  # frees what was compiled
    figures: dict[_Key, dict[str, Any]] = {key: {"compiled_why": reasons.get(key)} for key in models}
    for key, own in figures.items():
        for mode in ("eager", "compiled"):
            rate = rates.get((key, mode))
            own[mode] = None if rate is None else round(rate.median, 1)
            own[f"{mode}_iqr"] = None if rate is None else [round(value, 1) for value in rate.quartiles]
    conditions = {
        "device": device_name(device), "batch": batch, "dtype": "float32",
        "image_size": sizes[0] if len(sizes) == 1 else sizes,
        "threads": torch.get_num_threads() if device.type == "cpu" else None,
        "layout": "channels-last", "fused": True, "rounds": rounds, "torch": torch.__version__,
    }  # fmt: skip
    return {"conditions": conditions, "cells": {name: dict(figures[key]) for name, key in measured.items()}}


def _compile(
    models: Mapping[_Key, nn.Module], images: Mapping[_Key, Tensor], progress: Progress | None
) -> tuple[dict[_Key, nn.Module], dict[_Key, str]]:
    """Return the compiled networks, and for each that can't be compiled the reason."""
    networks, reasons = dict[_Key, nn.Module](), dict[_Key, str]()
    for done, (key, model) in enumerate(models.items(), start=1):
        try:
            networks[key] = compiled(model, images[key])
        except NotCompiledError as error:
            reasons[key] = str(error)
        if progress is not None:
            progress("compiling", done, len(models))
    return networks, reasons
