"""Times of detectors: whole, backbone alone and the rest, and a step of training, beside torchvision's ResNet-50.

`shvit-pl benchmark` measures the same networks; here their ratios stand beside those that are wanted, and a step of
training does: forward with losses, backward, AdamW, of noise with seven objects in each image.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import torch
from jsonargparse import auto_cli
from torch import Tensor

from benchmarks.report import environment, publish, table
from shvit_pl.deploy.benchmark import ONNX, WHOLE, Cell, Measured, measure, plan
from shvit_pl.deploy.detector_benchmark import (
    BACKBONE,
    PARTS,
    REST,
    BenchmarkedDetector,
    DetectorBuilder,
    open_detector,
)
from shvit_pl.deploy.measuring import chosen_device, device_name, num_threads
from shvit_pl.deploy.options import BenchmarkOptions
from shvit_pl.deploy.timing import Rate, Work, side_by_side
from shvit_pl.display import counted

S1, LIGHT, S4 = (f"detection/retinanet_{name}.yaml" for name in ("s1", "s1_light", "s4"))
R50 = "torchvision:retinanet_resnet50_fpn"
_WANTED = {  # the most of another's time that a detector may take, by detector and way to run
    (S1, "eager"): (R50, 0.5),
    (S4, "eager"): (R50, 0.7),
    (S1, ONNX): (R50, 0.35),
    (S4, ONNX): (R50, 0.5),
    (LIGHT, "eager"): (S1, 0.3),
}
_PLAIN = "official"  # the way of torchvision's as torchvision gives it: BatchNorm not folded, in NCHW
_COLUMNS = (
    *("way", "ms", "backbone ms", "rest ms", "M parameters", "GMACs", "backbone's"),
    *("time", "wanted", "of torchvision's as it is"),
)
_PACKAGES = ("torch", "torchvision", "timm", "onnxruntime")
_OBJECTS = 7  # of an image, as COCO's images have
_CLASSES = 80


def main(
    device: str = "auto",
    threads: int = 1,
    size: int = 512,
    batch: int = 1,
    blocks: int = 7,
    seconds: float = 0.5,
    train_batch: int = 2,
    train_blocks: int = 3,
    out: Path = Path("benchmarks/results"),
) -> None:
    """Measure inference and training steps, print the tables, and write them to `out`.

    Args:
        device: auto, cpu or cuda.
        threads: Of a CPU.
        size: Side of the images in pixels.
        batch: Images per batch in inference; ONNX takes one.
        blocks: Interleaved blocks of each detector.
        seconds: Least time of a block.
        train_batch: Images per step of training.
        train_blocks: Interleaved blocks of steps.
        out: Folder of the results.
    """
    where = chosen_device(device)
    with num_threads(threads):
        opened = {name: open_detector(name, None) for name in (S1, S4, LIGHT, R50)}
        measured = _inference(opened, where, size, batch, blocks, seconds)
        work = {name: Work(_step(each, where, size, train_batch), train_batch, where) for name, each in opened.items()}
        steps = side_by_side(work, train_blocks, seconds)
    how = (
        f"{counted(threads, 'thread')}; {size} px, {counted(batch, 'image')}, in training {train_batch}; medians of "
        f"{blocks} interleaved blocks, in training {train_blocks}, and of their ratios round by round"
    )
    _publish(measured, steps, train_batch, how, where, out)


def _publish(
    measured: list[Measured], steps: dict[str, Rate], train_batch: int, how: str, device: torch.device, out: Path
) -> None:
    rates = {(each.cell.model, each.cell.mode or ONNX): each.rate for each in measured}
    rows = [_row(each, rates) for each in measured]
    texts = [
        table(["RetinaNet", *_COLUMNS], rows),
        table(["RetinaNet", "s of a step", "of ResNet-50's"], [_step_row(name, steps, train_batch) for name in steps]),
        f"{how}. ms: the whole detector; {PARTS}. eager: BatchNorm folded, channels last; {_PLAIN}: "
        "neither, as torchvision gives it.",
    ]
    under = environment(_PACKAGES) | {"device": device_name(device)}
    results = {
        "inference": [
            {"model": each.cell.model, "way": each.cell.mode or ONNX, "images_per_second": each.rate.rounds}
            | {part: rate.rounds for part, rate in each.parts.items()}
            for each in measured
        ],
        "training": {name: rate.rounds for name, rate in steps.items()},
    }
    publish(out / f"detection_{device.type}", "Speed of detectors", "\n\n".join(texts), under, **results)


def _inference(
    opened: dict[str, BenchmarkedDetector], device: torch.device, size: int, batch: int, blocks: int, seconds: float
) -> list[Measured]:
    options = BenchmarkOptions(
        models=tuple(opened), device=device.type, batch_size=(batch,), image_size=(size,), mode=("eager",),
        runtime=("torch", "onnx"), blocks=blocks, seconds=seconds,
    )  # fmt: skip
    sizes = {name: each.image_size for name, each in opened.items()}
    (cells,) = plan(options, sizes, device.type)
    cells = tuple(cell for cell in cells if cell.runtime != ONNX or (cell.model != R50 and batch == 1))
    plain = replace(cells[-1], mode=_PLAIN)
    return measure([(*cells, plain)], _Builder(opened, device), options)[0]


class _Builder(DetectorBuilder):
    """Builds torchvision's detector also as it is."""

    def calls(self, cell: Cell, images: Tensor) -> dict[str, Callable[[], object]]:
        if cell.mode != _PLAIN:
            return super().calls(cell, images)
        model = deepcopy(self.opened[cell.model].model).to(images.device)
        model.score_thresh = self.deployed(cell.model, cell.image_size)[0].score_thresh

        def call() -> object:
            with torch.inference_mode():
                return model(images)

        return {WHOLE: call}


def _row(each: Measured, rates: dict[tuple[str, str], Rate]) -> list[str]:
    """A row of inference."""
    cell, way = each.cell, each.cell.mode or ONNX
    parts = [f"{_ms(each.parts[part], cell.batch_size):.0f}" if part in each.parts else "" for part in (BACKBONE, REST)]
    other, most = _WANTED.get((cell.model, way), (R50, None))
    return [
        _short(cell.model), way, f"{_ms(each.rate, cell.batch_size):.0f}", *parts, f"{each.cost.params / 1e6:.1f}",
        f"{each.cost.macs / 1e9:.1f}", f"{each.costs['backbone'].macs / 1e9:.1f}",
        f"{_time(each.rate, rates[other, 'eager']):.2f} of {_short(other)}", "" if most is None else f"{most}",
        f"{_time(each.rate, rates[R50, _PLAIN]):.2f}",
    ]  # fmt: skip


def _time(rate: Rate, other: Rate) -> float:
    """The time over that of another, the median over the rounds."""
    return median(theirs / own for own, theirs in zip(rate.rounds, other.rounds, strict=True))


def _ms(rate: Rate, batch: int) -> float:
    return 1000 * batch / rate.median


def _step_row(name: str, steps: dict[str, Rate], batch: int) -> list[str]:
    """A row of training."""
    return [_short(name), f"{batch / steps[name].median:.2f}", f"{_time(steps[name], steps[R50]):.2f}"]


def _short(name: str) -> str:
    return name.removeprefix("detection/retinanet_").removesuffix(".yaml").removeprefix("torchvision:retinanet_")


def _step(opened: BenchmarkedDetector, device: torch.device, size: int, batch: int) -> Callable[[], object]:
    """A step of training."""
    drawn = torch.Generator().manual_seed(0)
    images = torch.randn(batch, 3, size, size, generator=drawn).to(device, memory_format=torch.channels_last)
    corners = torch.rand(batch, _OBJECTS, 2, generator=drawn) * size / 2
    boxes = torch.cat([corners, corners + size / 16 + torch.rand(batch, _OBJECTS, 2, generator=drawn) * size / 4], -1)
    labels = torch.randint(_CLASSES, (batch, _OBJECTS), generator=drawn)
    targets = [{"boxes": own.to(device), "labels": label.to(device)} for own, label in zip(boxes, labels, strict=True)]
    model: Any = opened.model.train().to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6)

    def step() -> None:
        losses = model(*opened.arguments(images), targets)
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()

    return step


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
