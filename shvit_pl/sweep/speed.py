"""Inference speed of a sweep's cells, all measured in one go."""

from collections.abc import Mapping
from dataclasses import replace
from itertools import product
from typing import Any

import torch

from shvit_pl.deploy import measuring, optimization, options, timing
from shvit_pl.designs.design import Fingerprint, design_of
from shvit_pl.models import SHViT
from shvit_pl.runs.folder import channels_of

ROUNDS = 7
SECONDS = 0.3  # the least time of a measurement
_LAYOUT = torch.channels_last
_Key = tuple[Fingerprint, int, int, int]  # a network, its classes, and the side in pixels and channels of its images


def measure_speed(
    cells: Mapping[str, Mapping[str, Any]],
    device: str | None = None,
    progress: timing.Progress | None = None,
) -> dict[str, Any]:
    """Measure the network of every cell, in float32, channels-last, BatchNorm fused and two classifiers merged to one.

    `cells` has the `summary.json` of a run of each. Cells of the same network and image size share one measurement;
    weights are fresh, as speed does not depend on them. In each round, every network is measured once, eager and
    compiled, with the paper's batch. By default, `device` is the GPU where there is one. Returns `conditions`, and by
    cell the medians and quartiles of images per second.
    """
    where = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    batch = options.PAPER_BATCH[where.type]
    measured, models = {}, dict[_Key, torch.nn.Module]()
    for name, summary in cells.items():
        design, classes = design_of(summary["design"]), len(summary["classes"])
        channels = channels_of(summary["dataset"])
        measured[name] = key = design.fingerprint, classes, summary["dataset"]["image_size"], channels
        if key not in models:
            single = replace(design, distilled=False)
            model: torch.nn.Module = SHViT(single, num_classes=classes, in_chans=channels).eval().fuse()
            models[key] = model.to(where).to(memory_format=_LAYOUT)
    sizes = sorted({key[2] for key in models})
    shapes = {key: (batch, key[3], key[2], key[2]) for key in models}
    batches = {shape: torch.randn(shape).to(where, memory_format=_LAYOUT) for shape in sorted(set(shapes.values()))}
    images = {key: batches[shape] for key, shape in shapes.items()}
    try:
        turns, reasons = {(key, "eager"): model for key, model in models.items()}, dict[_Key, str]()
        for done, (key, model) in enumerate(models.items(), start=1):
            try:
                turns[key, "compiled"] = optimization.compiled(model, images[key])
            except optimization.NotCompiledError as error:
                reasons[key] = str(error)
            if progress is not None:
                progress("compiling", done, len(models))
        rates = timing.images_per_second(turns, {turn: images[turn[0]] for turn in turns}, ROUNDS, SECONDS, progress)
    finally:
        torch.compiler.reset()  # frees what was compiled
    figures: dict[_Key, dict[str, Any]] = {key: {"compiled_why": reasons.get(key)} for key in models}
    for key, mode in product(models, ("eager", "compiled")):
        rate = rates.get((key, mode))
        figures[key][mode] = None if rate is None else round(rate.median, 1)
        figures[key][f"{mode}_iqr"] = None if rate is None else [round(value, 1) for value in rate.quartiles]
    conditions = {
        "device": measuring.device_name(where), "batch": batch, "dtype": "float32",
        "image_size": sizes[0] if len(sizes) == 1 else sizes,
        "threads": torch.get_num_threads() if where.type == "cpu" else None,
        "layout": "channels-last", "fused": True, "rounds": ROUNDS, "torch": torch.__version__,
    }  # fmt: skip
    return {"conditions": conditions, "cells": {name: dict(figures[key]) for name, key in measured.items()}}
