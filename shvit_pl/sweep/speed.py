"""Inference speed of a sweep's cells, all measured in one go."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from shvit_pl.deploy.compiling import NotCompiledError, compiled
from shvit_pl.deploy.device import device_name
from shvit_pl.deploy.timing import Progress, Rate, images_per_second
from shvit_pl.designs.network import Network, design_of, network
from shvit_pl.models import SHViT

_LAYOUT = torch.channels_last
_BATCH = {"cuda": 256, "cpu": 16}  # the paper's
Summary = Mapping[str, Any]
Point = tuple[Network, int, int]  # a network, its classes, and the side of its images in pixels


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
    batch = batch or _BATCH[device.type]
    points = {name: _point(summary) for name, summary in cells.items()}
    models = {points[name]: _model(summary, device) for name, summary in cells.items()}
    sizes = sorted({size for _, _, size in models})
    batches = {size: torch.randn(batch, 3, size, size).to(device, memory_format=_LAYOUT) for size in sizes}
    images = {point: batches[point[2]] for point in models}
    try:
        fast = _compiled(models, images, progress) if compiling else dict.fromkeys(models, "not asked for")
        figures = _measured(models, fast, images, rounds, seconds, progress)
    finally:
        torch.compiler.reset()  # frees what was compiled
    return {
        "conditions": _conditions(device, batch, sizes, rounds),
        "cells": {name: dict(figures[point]) for name, point in points.items()},
    }


def _point(summary: Summary) -> Point:
    return network(design_of(summary)), len(summary["classes"]), summary["dataset"]["image_size"]


def _model(summary: Summary, device: torch.device) -> nn.Module:
    """A network with one classifier, as two are merged to one for use."""
    design = replace(design_of(summary), distilled=False)
    model: nn.Module = SHViT(design, num_classes=len(summary["classes"])).eval().fuse()
    return model.to(device).to(memory_format=_LAYOUT)


def _compiled(
    models: Mapping[Point, nn.Module], images: Mapping[Point, Tensor], progress: Progress | None
) -> dict[Point, nn.Module | str]:
    """The compiled networks; instead of one that can't be compiled, why."""
    networks: dict[Point, nn.Module | str] = {}
    for point, model in models.items():
        try:
            networks[point] = compiled(model, images[point])
        except NotCompiledError as error:
            networks[point] = str(error)
        if progress is not None:
            progress("compiling", len(networks), len(models))
    return networks


def _measured(
    models: Mapping[Point, nn.Module],
    fast: Mapping[Point, nn.Module | str],
    images: Mapping[Point, Tensor],
    rounds: int,
    seconds: float,
    progress: Progress | None,
) -> dict[Point, dict[str, Any]]:
    """The figures of each network: eager and compiled ones take turns in the same rounds."""
    turns = {(point, "eager"): model for point, model in models.items()}
    turns |= {(point, "compiled"): network for point, network in fast.items() if isinstance(network, nn.Module)}
    rates = images_per_second(turns, {turn: images[turn[0]] for turn in turns}, rounds, seconds, progress)
    return {
        point: {
            **_figures("eager", rates[point, "eager"]),
            **_figures("compiled", rates.get((point, "compiled"))),
            "compiled_why": network if isinstance(network, str) else None,
        }
        for point, network in fast.items()
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
