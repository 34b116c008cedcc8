"""What is to be measured: cells, in groups that are compared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product

from shvit_pl.deploy.benchmark.options import Options
from shvit_pl.deploy.flags import PAPER_BATCH

ONNX = "onnx"


@dataclass(frozen=True)
class Cell:
    """One row of the table.

    Attributes:
        model: As it was given.
        runtime: torch or onnx.
        mode: How torch runs it; empty for onnx.
        dtype: What it computes in.
        batch: Images per batch.
        pixels: Side of the images.
    """

    model: str
    runtime: str
    mode: str
    dtype: str
    batch: int
    pixels: int

    @property
    def how(self) -> str:
        """The mode, or the runtime that has none."""
        return self.mode or self.runtime

    def __str__(self) -> str:
        return f"{self.model}, {self.how}, {self.dtype}, batch {self.batch}, {self.pixels} px"


@dataclass(frozen=True)
class Group:
    """Cells that are measured in turns, and whose ratios are given.

    Attributes:
        batch: Images per batch.
        image_size: The side asked for; `None` where each network has its own.
        cells: In the order of the table.
    """

    batch: int
    image_size: int | None
    cells: tuple[Cell, ...]

    def __str__(self) -> str:
        size = "each at its own image size" if self.image_size is None else f"{self.image_size} px"
        return f"batch {self.batch}, {size}"


def plan(options: Options, sizes: Mapping[str, int], device: str) -> list[Group]:
    """The cells of a benchmark; what is impossible among them shows when they are built.

    Args:
        options: What was asked for.
        sizes: The own image size of each model.
        device: The device's type.
    """
    batches = [PAPER_BATCH[device] if batch is None else batch for batch in options.batch_sizes]
    groups = []
    for batch, size in product(batches, options.image_sizes):
        cells = [
            Cell(model, runtime, mode, dtype, batch, size or sizes[model])
            for model in options.models
            for runtime, mode, dtype in _ways(options, device)
        ]
        groups.append(Group(batch, size, tuple(cells)))
    return groups


def _ways(options: Options, device: str) -> Iterator[tuple[str, str, str]]:
    """Runtime, mode and dtype of every way to run a model."""
    for runtime in options.runtimes:
        if runtime == ONNX:
            yield ONNX, "", "fp32"
            continue
        for mode in options.modes:
            dtypes = (official_dtype(device, options.train),) if mode == "official" else options.dtypes
            yield from (("torch", mode, dtype) for dtype in dtypes)


def official_dtype(device: str, train: bool) -> str:
    """What the official code computes in: fp32, but on a GPU it infers under fp16 autocast."""
    return "fp16 autocast" if device == "cuda" and not train else "fp32"
