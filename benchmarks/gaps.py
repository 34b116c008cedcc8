"""How far a measured row is from the device's limits, and where its time goes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.report import table
from benchmarks.shares import onnx_shares, shares
from shvit_pl.compat import inductor_compile
from shvit_pl.deploy.benchmark import Cell, TrainStep
from shvit_pl.deploy.measuring import DTYPES
from shvit_pl.deploy.optimization import Recipe, optimize, recipes
from shvit_pl.deploy.passes import fused, rewrite
from shvit_pl.deploy.timing import counted_bytes, peaks
from shvit_pl.designs.cost import cost
from shvit_pl.models import create_model

_BACKWARD = 2  # times the forward pass


def gap(row: Mapping[str, Any], device: torch.device) -> dict[str, Any]:
    """FLOP/s and bytes/s of a row beside the device's, and shares of its time.

    Args:
        row: With target, model, dtype, batch, train, and images_per_second.
        device: What computes.
    """
    model = create_model(row["model"]).to(device)
    side, dtype = model.design.image_size, DTYPES[row["dtype"]]
    images = torch.randn(row["batch"], 3, side, side, device=device)
    images_of_layers = images.to(dtype).contiguous(memory_format=torch.channels_last)
    passes = row["images_per_second"] * (1 + _BACKWARD * row["train"])
    flops = 2 * cost(model.design).macs * passes
    plain = fused(create_model(row["model"]).eval()).to(device, dtype)
    with counted_bytes() as moved:
        plain(images_of_layers)
    traffic = moved() * passes / row["batch"]
    most_flops, most_bytes = peaks(device, dtype)
    way, rates, spent = _training(row, model, images) if row["train"] else _inference(model, images, dtype)
    return {
        **{key: row[key] for key in ("target", "model", "dtype")},
        **{"way": way, "tried": rates, "flops": flops, "of_peak_flops": flops / most_flops},
        **{"bytes": traffic, "of_peak_bytes": traffic / most_bytes, "shares": spent},
    }


def _training(
    row: Mapping[str, Any], model: nn.Module, images: Tensor
) -> tuple[str, dict[str, float], dict[str, float]]:
    cell = Cell(row["model"], "torch", "optimized", row["dtype"], len(images), images.shape[-1])
    return "a step of training", {}, shares(TrainStep(cell, model, images), images.device)


def _inference(model: nn.Module, images: Tensor, dtype: torch.dtype) -> tuple[str, dict[str, float], dict[str, float]]:
    """The way that `optimize` takes, the images per second of all that it tried, and the shares of its time."""
    network = optimize(model.eval(), images, dtype)
    recipe = next(each for each in recipes(images.device) if each.name == network.recipe)
    if recipe.onnx:
        return network.recipe, network.rates, onnx_shares(fused(model), images)
    images = images.to(dtype).contiguous(memory_format=torch.channels_last)
    seen = network if images.is_cuda else _visible(model, recipe, images)
    return network.recipe, network.rates, shares(lambda: seen(images), images.device)


@torch.no_grad()
def _visible(model: nn.Module, recipe: Recipe, images: Tensor) -> Any:
    """The network as `optimize` compiles it for a CPU, with its kernels called from Python, where a profiler looks."""
    rewritten = rewrite(fused(model).to(images.dtype), *recipe.passes).to(memory_format=torch.channels_last)
    exported = torch.export.export(rewritten, (images,)).module()
    return inductor_compile(exported, images, {"freezing": True})


def gap_table(gaps: Sequence[Mapping[str, Any]]) -> str:
    """The rows as Markdown."""
    header = ["", "network", "dtype", "way", "GFLOP/s", "of a large product's", "GB/s", "of a large copy's"]
    cells = [
        [
            *(gap["target"], gap["model"], gap["dtype"], gap["way"]),
            *(f"{gap['flops'] / 1e9:.0f}", f"{gap['of_peak_flops']:.0%}"),
            *(f"{gap['bytes'] / 1e9:.1f}", f"{gap['of_peak_bytes']:.0%}"),
            *(f"{share:.0%}" for share in gap["shares"].values()),
        ]
        for gap in gaps
    ]
    return table([*header, *gaps[0]["shares"]], cells)
