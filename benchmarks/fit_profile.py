"""Where the time of a training step of S1 goes, and what its parts cost as timm and torch have them by default.

The steps are those of `shvit-pl fit` with the paper's recipe on generated JPEGs; the first ones do not count. A GPU is
waited for at every border between two parts, so that each has its own time; a real run does not wait.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from jsonargparse import auto_cli
from timm.optim import create_optimizer_v2
from timm.utils import ModelEmaV3, adaptive_clip_grad
from torch import nn
from torchvision.transforms.v2.functional import pil_to_tensor

from benchmarks.images import photograph, write_images
from benchmarks.report import environment, publish, table
from benchmarks.runs import fit
from benchmarks.step_times import StepTimes
from shvit_pl.data.config import DataConfig
from shvit_pl.data.transforms import PlannedCrop, train_transform
from shvit_pl.models import create_model
from shvit_pl.modules.optim_and_ema import Average, clip_adaptively

_PACKAGES = ("torch", "torchvision", "timm", "datasets", "lightning")
_RECIPE = ["--config=s1.yaml", "--config=recipes/imagenet_300e.yaml", "--data.repeats=1"]


def main(images: int = 160, batch_size: int = 16, steps: int = 12, out: Path = Path("benchmarks/results")) -> None:
    """Profile the steps and their parts, print the tables, and write them to `out`.

    Args:
        images: Number of generated JPEGs.
        batch_size: Images per step.
        steps: Steps that count.
        out: Folder of the results.
    """
    StepTimes.wanted = StepTimes.skipped + steps
    with tempfile.TemporaryDirectory() as root:
        folder, _ = write_images(Path(root), images)
        flags = [*_RECIPE, "--trainer.limit_val_batches=0", f"--data.path={folder}", f"--data.batch_size={batch_size}"]
        more = [f"--trainer.max_steps={StepTimes.wanted + 1}", "--trainer.max_epochs=-1"]
        summary = fit(*flags, *more, "--trainer.profiler=benchmarks.step_times.StepTimes")
    shares = StepTimes.last.seconds
    parts, loading = _parts(batch_size), _loading()
    text = _describe(shares, parts, loading, batch_size, steps)
    facts = {**environment(_PACKAGES), "device": summary["device"]}
    results = {"seconds": dict(shares), "milliseconds": parts, "loading": loading}
    publish(out / "fit_profile", "Where a training step's time goes", text, facts, **results)


def _parts(batch_size: int) -> dict[str, list[float]]:
    """Milliseconds of the parts of a step of S1, as they were and as they are."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model, last = (create_model("s1", num_classes=1000).train().to(device) for _ in range(2))
    last.to(memory_format=torch.channels_last)
    images = torch.randn(batch_size, 3, 224, 224, device=device)
    together = images.contiguous(memory_format=torch.channels_last)
    _learn(model, images)
    parameters = list(model.parameters())
    theirs, ours = ModelEmaV3(model, decay=0.999), Average(model, decay=0.999)
    plain, fused = (create_optimizer_v2(model, opt="adamw", lr=1e-9, fused=how) for how in (False, True))
    return _compared(
        {
            "forward and backward: contiguous, channels-last": (
                lambda: _learn(model, images),
                lambda: _learn(last, together),
            ),
            "adaptive clipping: timm's, of all at once": (
                lambda: adaptive_clip_grad(parameters, 0.02),
                lambda: clip_adaptively(parameters, 0.02),
            ),
            "AdamW: not fused, fused": (plain.step, fused.step),
            "moving average: timm's, without state dicts": (
                lambda: theirs.update(model, step=10),
                lambda: ours.update(model, step=10),
            ),
        }
    )


def _learn(model: nn.Module, images: torch.Tensor) -> None:
    model.zero_grad(set_to_none=True)
    model(images).square().mean().backward()


def _loading() -> dict[str, list[float]]:
    """Milliseconds of a worker for one decoded image, where it augments and where the device does."""
    image = pil_to_tensor(photograph(np.random.default_rng(0)))
    torch.set_num_threads(1)
    ways = {}
    for name, jitter in (("crop and flip", 0.0), ("crop, flip and color jitter", 0.4)):
        whole, part = train_transform(DataConfig(color_jitter=jitter)), PlannedCrop(224, jitter)
        ways[f"{name}: in the worker, left to the device"] = (lambda w=whole: w(image), lambda p=part: p(image))
    return _compared(ways, rounds=60)


def _compared(ways: dict[str, tuple[Callable[[], Any], Callable[[], Any]]], rounds: int = 5) -> dict[str, list[float]]:
    """Median milliseconds of both ways in interleaved rounds, after one that does not count."""
    found: dict[str, list[list[float]]] = {name: [[], []] for name in ways}
    for number in range(rounds + 1):
        for name, both in ways.items():
            for times, way in zip(found[name], both, strict=True):
                taken = _milliseconds(way)
                times += [taken] * (number > 0)
    return {name: [median(times) for times in both] for name, both in found.items()}


def _milliseconds(way: Callable[[], Any]) -> float:
    since = time.perf_counter()
    way()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return 1e3 * (time.perf_counter() - since)


def _describe(
    seconds: dict[str, float],
    parts: dict[str, list[float]],
    loading: dict[str, list[float]],
    batch_size: int,
    steps: int,
) -> str:
    total = sum(seconds.values())
    ordered = sorted(seconds.items(), key=lambda item: -item[1])
    shares = [[name, f"{1e3 * taken / steps:.1f}", f"{100 * taken / total:.1f}"] for name, taken in ordered]
    compared = [
        [name, f"{old:.2f}", f"{new:.2f}", f"{old / new:.1f}"] for name, (old, new) in (parts | loading).items()
    ]
    return "\n\n".join(
        (
            f"S1 at 224 pixels, batches of {batch_size}, the paper's recipe; {steps} steps of `shvit-pl fit`, "
            f"{1e3 * total / steps:.0f} ms each.",
            table(["part of a step", "ms", "%"], shares),
            "What its parts cost before and after (the first four for a step, the others for an image of 500 x 375 "
            "pixels, decoded); medians of interleaved rounds:",
            table(["part: before, after", "ms before", "ms after", "times as fast"], compared),
        )
    )


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
