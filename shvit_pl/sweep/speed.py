"""Inference speed of a sweep's cells, all measured in one go."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from shvit_pl.deploy.measuring import device_name
from shvit_pl.deploy.optimization import NotCompiledError, compiled
from shvit_pl.deploy.options import PAPER_BATCH
from shvit_pl.deploy.timing import Progress, Rate, images_per_second
from shvit_pl.designs.fingerprint import Fingerprint, design_of, fingerprint
from shvit_pl.models import SHViT

_LAYOUT = torch.channels_last
Summary = Mapping[str, Any]
Timed = tuple[Fingerprint, int, int]  # a network, its classes, and the side of its images in pixels


def measure_speed(
    cells: Mapping[str, Summary],
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
        device: What computes (default: the GPU where there is one).
        rounds: Rounds, in each of which every network is measured once.
        seconds: Least time of one measurement.
        compiling: Measure every network compiled by `torch.compile` too.
        progress: Told of every step: what is done, how many are, and of how many.

    Returns:
        `conditions` (device, batch, ...), and by cell the medians and quartiles of images per second.
    """
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    batch = batch or PAPER_BATCH[device.type]
    timed = {name: _timed(summary) for name, summary in cells.items()}
    models = {timed[name]: _model(summary, device) for name, summary in cells.items()}
    sizes = sorted({size for _, _, size in models})
    batches = {size: torch.randn(batch, 3, size, size).to(device, memory_format=_LAYOUT) for size in sizes}
    images = {key: batches[key[2]] for key in models}
    try:
        fast = _compiled(models, images, progress) if compiling else dict.fromkeys(models, "not asked for")
        figures = _measured(models, fast, images, rounds, seconds, progress)
    finally:
        torch.compiler.reset()  # frees what was compiled
    return {
        "conditions": _conditions(device, batch, sizes, rounds),
        "cells": {name: dict(figures[key]) for name, key in timed.items()},
    }


def _timed(summary: Summary) -> Timed:
    return fingerprint(design_of(summary)), len(summary["classes"]), summary["dataset"]["image_size"]


def _model(summary: Summary, device: torch.device) -> nn.Module:
    """A network with one classifier, as two are merged to one for use."""
    design = replace(design_of(summary), distilled=False)
    model: nn.Module = SHViT(design, num_classes=len(summary["classes"])).eval().fuse()
    return model.to(device).to(memory_format=_LAYOUT)


def _compiled(
    models: Mapping[Timed, nn.Module], images: Mapping[Timed, Tensor], progress: Progress | None
) -> dict[Timed, nn.Module | str]:
    """The compiled networks; instead of one that can't be compiled, why."""
    networks: dict[Timed, nn.Module | str] = {}
    for key, model in models.items():
        try:
            networks[key] = compiled(model, images[key])
        except NotCompiledError as error:
            networks[key] = str(error)
        if progress is not None:
            progress("compiling", len(networks), len(models))
    return networks


def _measured(
    models: Mapping[Timed, nn.Module],
    fast: Mapping[Timed, nn.Module | str],
    images: Mapping[Timed, Tensor],
    rounds: int,
    seconds: float,
    progress: Progress | None,
) -> dict[Timed, dict[str, Any]]:
    """The figures of each network: eager and compiled ones take turns in the same rounds."""
    turns = {(key, "eager"): model for key, model in models.items()}
    turns |= {(key, "compiled"): network for key, network in fast.items() if isinstance(network, nn.Module)}
    rates = images_per_second(turns, {turn: images[turn[0]] for turn in turns}, rounds, seconds, progress)
    return {
        key: {
            **_figures("eager", rates[key, "eager"]),
            **_figures("compiled", rates.get((key, "compiled"))),
            "compiled_why": network if isinstance(network, str) else None,
        }
        for key, network in fast.items()
    }


def _figures(name: str, rate: Rate | None) -> dict[str, Any]:
    if rate is None:
        return {name: None, f"{name}_iqr": None}
    return {name: round(rate.median, 1), f"{name}_iqr": [round(value, 1) for value in rate.quartiles]}


def _conditions(device: torch.device, batch: int, sizes: list[int], rounds: int) -> dict[str, Any]:
    return {
        "device": device_name(device),
        "batch": batch,
        "dtype": "float32",
        "image_size": sizes[0] if len(sizes) == 1 else sizes,
        "threads": torch.get_num_threads() if device.type == "cpu" else None,
        "layout": "channels-last",
        "fused": True,
        "rounds": rounds,
        "torch": torch.__version__,
    }
