"""One export: converted under a temporary name, run, compared, and only then put in its place."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from shvit_pl import __version__
from shvit_pl.command_line.quiet import silenced
from shvit_pl.data.config import EMBEDDED
from shvit_pl.deploy.export import int8
from shvit_pl.deploy.images import RealImages, in_batches
from shvit_pl.deploy.measuring import torch_dtype
from shvit_pl.deploy.options import ExportOptions
from shvit_pl.deploy.passes import check_size, fused
from shvit_pl.errors import UserError, one_line
from shvit_pl.files import replacing, size
from shvit_pl.models.open_network import OpenedNetwork

_COMPARED = 64  # images
# Fusing and other orders of summation move float32 by about 1e-6 of the largest output; float16 rounds every layer's
# output to 11 bits, which a hundred layers in a row add up. A wrong operator or weight moves far more.
_TOLERANCES = {"fp32": 1e-4, "fp16": 2e-2}


class Graph(nn.Module):
    """A network with normalization before it and softmax after it, as asked for.

    Args:
        network: A network `(B, 3, S, S)` to `(B, classes)`.
        normalization: Mean and standard deviation per channel, for pixels from 0 to 1; None: images come normalized.
        softmax: Give probabilities instead of logits.
        dtype: Number type of the network; images and outputs keep their own.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        network: nn.Module,
        normalization: tuple[Sequence[float], Sequence[float]] | None = None,
        softmax: bool = False,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        self.network = network.to(dtype)
        self.normalize, self.softmax, self.dtype = normalization is not None, softmax, dtype
        for name, values in zip(("mean", "std"), normalization or (), strict=False):
            self.register_buffer(name, torch.tensor(values).view(1, -1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Map images `(B, 3, S, S)` to logits or probabilities `(B, classes)`."""
        if self.normalize:
            images = (images - self.mean) / self.std
        outputs = self.network(images.to(self.dtype)).to(images.dtype)
        return outputs.softmax(dim=-1) if self.softmax else outputs


@dataclass(frozen=True)
class Difference:
    """The difference of two networks' outputs."""

    largest: float
    """Largest absolute difference of all outputs."""
    relative: float
    """Largest difference as a share of the largest absolute output; NaN where an output is."""
    agreeing: int
    """Images on which both have the same top-1 class."""
    images: int
    """Images compared."""
    batches: tuple[int, ...]
    """Sizes of the batches."""


@torch.inference_mode()
def difference(original: nn.Module, exported: nn.Module, batches: Iterable[Tensor]) -> Difference:
    """Run both on the same images.

    Args:
        original: The network, in evaluation mode, on the CPU.
        exported: The file's network, on the CPU.
        batches: Images `(B, 3, S, S)` as both take them.
    """
    outputs = [(original(images), exported(images)) for images in batches]
    expected, found = (torch.cat([pair[side] for pair in outputs]).double() for side in (0, 1))
    largest = (expected - found).abs().max()
    return Difference(
        largest.item(),
        (largest / expected.abs().max()).item(),
        int((expected.argmax(-1) == found.argmax(-1)).sum()),
        len(expected),
        tuple(dict.fromkeys(len(pair[0]) for pair in outputs)),
    )


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
        default = _TOLERANCES[self.options.graph_dtype]
        return default if self.options.tolerance is None else self.options.tolerance

    @cached_property
    def module(self) -> Any:
        """The module that writes and reads the format."""
        return self.options.spec.load_module()

    def graph(self, network: nn.Module, dtype: torch.dtype = torch.float32) -> Graph:
        """Return the graph of a network `(B, 3, S, S)` to `(B, classes)`, in evaluation mode."""
        normalization = (self.opened.mean, self.opened.std) if self.options.normalize else None
        return Graph(network, normalization, self.options.softmax, dtype).eval()

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
    check_size(opened, job.image_size)
    if options.int8 and opened.fresh:
        raise UserError(
            f"--int8: the weights of {opened.name!r} are fresh, so its accuracy means nothing; give a run folder, a "
            "checkpoint or a Hub repo."
        )
    images = RealImages(opened, job.image_size, EMBEDDED, normalized=not options.normalize)
    print(f"converting {opened.name} ({options.graph_dtype}, {job.image_size} px) to {options.format}", flush=True)
    with replacing(options.path) as partial:
        _convert(job, images, partial)
        found = _verified(job, images, partial) if options.spec.runs_here else None
        measured = int8.replace_by_int8(opened, job.image_size, options, partial) if options.int8 else []
        with silenced():
            details = job.module.describe(partial)
    print()
    for name, text in _report(job, found, [*details, *measured]):
        print(f"  {name:<11}{text}")
    shape = f"torch.rand({options.batch or 1}, 3, {job.image_size}, {job.image_size})"
    print(f"\nuse it: {job.module.example_of_use(options.path, shape)}")


def _convert(job: Job, images: RealImages, path: Path) -> None:
    options, single = job.options, job.options.batch == 1
    arguments: dict[str, Any] = {}  # of `save`, that only some formats have
    if options.format == "coreml":
        names = job.opened.class_names if options.softmax and single else None
        arguments = {"half": options.graph_dtype == "fp16", "pixels": options.normalize and single, "classes": names}
    elif options.spec.dynamic:
        arguments = {"dynamic": options.batch is None, **({"opset": options.opset} if options.opset else {})}
    # CoreML's converter chooses the precision itself
    dtype = torch.float32 if options.format == "coreml" else torch_dtype(options.graph_dtype)
    (example,) = in_batches(images.validation(2)[0], [options.batch or 2])
    with _failing("the converter can't write this network", options):
        job.module.save(job.graph(fused(job.opened.model), dtype), example, path, job.metadata, **arguments)


@contextmanager
def _failing(problem: str, options: ExportOptions) -> Iterator[None]:
    """Silence a converter or a runtime; its exceptions, of any kind, become a `UserError`."""
    try:
        with silenced():
            yield
    except Exception as error:
        raise UserError(
            f"--format {options.format}: {problem} ({one_line(error)[:240]}). Nothing was written to "
            f"{str(options.path)!r}."
        ) from error


def _verified(job: Job, images: RealImages, path: Path) -> Difference:
    """Return the measured difference between a file and its network, in batches of several sizes where it can."""
    options = job.options
    print(f"verifying it with {options.spec.runs_as}", flush=True)
    pictures, _ = images.validation(_COMPARED)
    sizes = [1, 3, *(min(16, len(pictures) - start) for start in range(4, len(pictures), 16))]
    if options.batch is not None:
        sizes = [options.batch] * max(1, len(pictures) // options.batch)
    with _failing(f"{options.spec.runs_as} can't run the file", options):
        exported = job.module.load(path)
        found = difference(job.graph(job.opened.model), exported, in_batches(pictures, sizes))
    if not found.relative <= job.tolerance:
        raise UserError(
            f"--format {options.format}: it differs from the network by {found.relative:.1e} of the largest output on "
            f"{found.images} images (allowed is {job.tolerance:.0e}), and names the same class on {found.agreeing}. "
            f"Nothing was written to {str(options.path)!r}."
        )
    return found


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
