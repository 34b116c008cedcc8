"""One export: converted under a temporary name, run, compared, and only then put in its place."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from shvit_pl import __version__
from shvit_pl.deploy.export import int8, verify
from shvit_pl.deploy.export.options import ExportOptions
from shvit_pl.deploy.export.verify import Difference, silenced
from shvit_pl.deploy.images import RealImages, digits, in_batches
from shvit_pl.deploy.measuring import torch_dtype
from shvit_pl.deploy.onnx_runtime import OPSET
from shvit_pl.deploy.passes import fused
from shvit_pl.errors import UserError, one_line
from shvit_pl.files import replacing, size
from shvit_pl.models.open_network import OpenedNetwork

_COMPARED = 64  # images


class Graph(nn.Module):
    """A network with normalization before it and softmax after it, as asked for.

    Args:
        network: A network `(B, 3, S, S)` to `(B, classes)`.
        mean: Mean of the normalization of pixels from 0 to 1, per channel; None: images come normalized.
        std: Standard deviation of the normalization, per channel.
        softmax: Give probabilities instead of logits.
        dtype: Number type of the network; images and outputs keep their own.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        network: nn.Module,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        softmax: bool = False,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        self.network = network.to(dtype)
        self.normalize = mean is not None and std is not None
        self.softmax = softmax
        self.dtype = dtype
        if mean is not None and std is not None:
            self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1))
            self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Map images `(B, 3, S, S)` to logits or probabilities `(B, classes)`."""
        if self.normalize:
            images = (images - self.mean) / self.std
        outputs = self.network(images.to(self.dtype)).to(images.dtype)
        return outputs.softmax(dim=-1) if self.softmax else outputs


@dataclass(frozen=True)
class Job:
    """A network to be exported, and the flags."""

    opened: OpenedNetwork
    options: ExportOptions

    @property
    def image_size(self) -> int:
        """Side of the images in pixels."""
        return self.options.image_size or self.opened.image_size

    @property
    def tolerance(self) -> float:
        """The relative difference that is allowed."""
        default = verify.TOLERANCES[self.options.graph_dtype]
        return default if self.options.tolerance is None else self.options.tolerance

    @cached_property
    def module(self) -> Any:
        """The module that writes and reads the format."""
        return self.options.spec.load_module()

    def graph(self, network: nn.Module, dtype: torch.dtype = torch.float32) -> Graph:
        """Return the graph of a network `(B, 3, S, S)` to `(B, classes)`, in evaluation mode."""
        mean, std = (self.opened.mean, self.opened.std) if self.options.normalize else (None, None)
        return Graph(network, mean, std, self.options.softmax, dtype).eval()

    @property
    def metadata(self) -> dict[str, str]:
        """Labels and what a program must know to prepare images, as text; lists are JSON."""
        pixels = "RGB pixels from 0 to 1"
        names = self.opened.class_names
        return {
            "made_by": f"shvit-pl {__version__}",
            "weights": "averaged" if self.opened.averaged else "raw",
            "input": pixels if self.options.normalize else f"{pixels}, then (pixels - mean) / std",
            "output": "probabilities" if self.options.softmax else "logits",
            "image_size": str(self.image_size),
            "resize": self.opened.resize,
            "crop_pct": str(self.opened.crop_pct),
            "mean": json.dumps(list(self.opened.mean)),
            "std": json.dumps(list(self.opened.std)),
            **({} if names is None else {"labels": json.dumps(names)}),
        }


def export(opened: OpenedNetwork, options: ExportOptions) -> None:
    """Write the file of the options, and print what was measured on it.

    Raises:
        UserError: where the converter fails, the file differs from the network, or int8 costs too much; nothing is
            written then.
    """
    job = Job(opened, options)
    images = digits(opened, job.image_size, normalized=not options.normalize)
    print(f"converting {opened.name} ({options.graph_dtype}, {job.image_size} px) to {options.format}", flush=True)
    with replacing(options.path) as partial:
        _convert(job, images, partial)
        found = _verified(job, images, partial) if options.spec.runs_here else None
        measured = int8.replace_by_int8(opened, job.image_size, options, partial) if options.int8 else []
        with silenced():
            details = job.module.describe(partial)
    _print_report(job, found, [*details, *measured])


def _convert(job: Job, images: RealImages, path: Path) -> None:
    options = job.options
    example = in_batches(images.validation(2)[0], [options.batch or 2])[0]
    # CoreML's converter chooses the precision itself
    dtype = torch.float32 if options.format == "coreml" else torch_dtype(options.graph_dtype)
    graph = job.graph(fused(job.opened.model), dtype)
    try:
        with silenced():
            job.module.save(graph, example, path, job.metadata, **_format_arguments(job))
    except Exception as error:  # converters and their libraries have exceptions of their own
        raise UserError(
            f"--format {options.format}: the converter can't write this network ({one_line(error)[:240]})."
        ) from error


def _format_arguments(job: Job) -> dict[str, Any]:
    """Return the arguments of `save` that only some formats have."""
    options, single = job.options, job.options.batch == 1
    if options.format == "coreml":
        names = job.opened.class_names if options.softmax and single else None
        return {"half": options.graph_dtype == "fp16", "pixels": options.normalize and single, "classes": names}
    if options.format == "onnx":
        return {"opset": options.opset or OPSET, "dynamic": options.batch is None}
    return {"dynamic": options.batch is None} if options.format == "torch-export" else {}


def _verified(job: Job, images: RealImages, path: Path) -> Difference:
    """Return the measured difference between a file and its network."""
    options = job.options
    print(f"verifying it with {options.spec.runs_as}", flush=True)
    exported = _loaded(job, path)
    pictures, _ = images.validation(_COMPARED)
    sizes = verify.batch_sizes(len(pictures), options.batch)
    try:
        with silenced():
            found = verify.difference(job.graph(job.opened.model), exported, in_batches(pictures, sizes))
        verify.check(found, job.tolerance)
    except Exception as error:  # a file that can't be run is as useless as a wrong one
        raise UserError(
            f"--format {options.format}: {one_line(error)[:300]}. Nothing was written to {str(options.path)!r}."
        ) from error
    return found


def _loaded(job: Job, path: Path) -> nn.Module:
    try:
        with silenced():
            network: nn.Module = job.module.load(path)
    except Exception as error:
        raise UserError(
            f"--format {job.options.format}: {job.options.spec.runs_as} can't open the file "
            f"({one_line(error)[:200]}). Nothing was written to {str(job.options.path)!r}."
        ) from error
    return network


def _print_report(job: Job, found: Difference | None, details: Sequence[str]) -> None:
    print()
    for name, text in _report(job, found, details):
        print(f"  {name:<11}{text}")
    images = f"torch.rand({job.options.batch or 1}, 3, {job.image_size}, {job.image_size})"
    print(f"\nuse it: {job.module.example_of_use(job.options.path, images)}")


def _report(job: Job, found: Difference | None, details: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Give the lines of the report, each with a name."""
    options = job.options
    yield "file", f"{options.path}, {size(options.path) / 1e6:.1f} MB, {options.format}"
    if job.opened.fresh:
        yield "weights", "fresh: only speed can be measured with them"
    pixels = "RGB pixels from 0 to 1" if options.normalize else "normalized RGB"
    yield "input", f"images: ({options.batch or 'any'}, 3, {job.image_size}, {job.image_size}), {pixels}"
    names = job.opened.class_names
    labels = "the classes have no names" if names is None else f"{len(names)} labels in the file"
    yield "output", f"{'probabilities' if options.softmax else 'logits'}; {labels}"
    for line in details:
        yield "", line
    if found is None:
        yield "not run", f"saved, not run: {options.spec.runs_as} runs on macOS only"
        return
    before = " (of float, before int8)" if options.int8 else ""
    yield (
        "difference",
        f"{found.largest:.1e} at most{before}, {found.relative:.1e} of the largest output (allowed "
        f"{job.tolerance:.0e}); the same class on {found.agreeing} of {found.images} images (digits, in batches of "
        f"{', '.join(map(str, found.batches))})",
    )
