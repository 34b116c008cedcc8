"""One export: converted under a temporary name, run, compared, and only then put in its place."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn

from shvit_pl.deploy.export import verify
from shvit_pl.deploy.export.graph import Surroundings
from shvit_pl.deploy.export.metadata import metadata
from shvit_pl.deploy.export.onnx_format import OPSET
from shvit_pl.deploy.export.quantised import quantised
from shvit_pl.deploy.export.report import Exported, print_report, runner
from shvit_pl.deploy.export.request import Request
from shvit_pl.deploy.export.silence import silenced
from shvit_pl.deploy.images import RealImages, digits, in_batches
from shvit_pl.deploy.measuring import torch_dtype
from shvit_pl.deploy.passes import fused
from shvit_pl.errors import UserError, one_line
from shvit_pl.files import replacing
from shvit_pl.models.open_network import OpenedNetwork

_COMPARED = 64  # images


@dataclass(frozen=True)
class Job:
    """A network, and what to make of it."""

    opened: OpenedNetwork
    request: Request

    @property
    def image_size(self) -> int:
        """Side of the images in pixels."""
        return self.request.options.image_size or self.opened.image_size

    @cached_property
    def surroundings(self) -> Surroundings:
        """What the graph has around the network."""
        normalise, softmax = self.request.options.normalise, self.request.options.softmax
        mean, std = (self.opened.mean, self.opened.std) if normalise else (None, None)
        return Surroundings(mean, std, softmax)

    @cached_property
    def tolerance(self) -> float:
        """The relative difference that is allowed."""
        given = self.request.options.tolerance
        return verify.TOLERANCES[self.request.dtype] if given is None else given

    @property
    def metadata(self) -> dict[str, str]:
        """What the file says of itself."""
        return metadata(self.opened, self.image_size, self.surroundings.mean is not None, self.surroundings.softmax)


def export(opened: OpenedNetwork, request: Request) -> None:
    """Write the file that was asked for, and print what was measured of it.

    Raises:
        UserError: where the converter fails, the file differs from the network, or int8 costs too much; nothing is
            written then.
    """
    job = Job(opened, request)
    images = digits(opened, job.image_size, normalised=not request.options.normalise)
    print(f"converting {opened.name} ({request.dtype}, {job.image_size} px) to {request.name}", flush=True)
    with replacing(request.output) as partial:
        _convert(job, images, partial)
        print(f"verifying it{runner(request)}", flush=True)
        found = _verified(job, images, partial)
        lines = quantised(job, partial) if request.options.int8 else []
        details = _details(job, partial)
    print_report(Exported(job.opened, request, job.image_size, found, job.tolerance, [*details, *lines]))


def _convert(job: Job, images: RealImages, path: Path) -> None:
    example = in_batches(images.validation(2)[0], [job.request.batch or 2])[0]
    graph = job.surroundings.around(fused(job.opened.model), _precision(job))
    try:
        with silenced():
            job.request.format.load_module().save(graph, example, path, job.metadata, **_arguments(job))
    except Exception as error:  # converters and their libraries have exceptions of their own
        raise UserError(
            f"--format {job.request.name}: the converter can't write this network ({one_line(error)[:240]})."
        ) from error


def _precision(job: Job) -> torch.dtype:
    """CoreML's converter chooses the precision itself."""
    return torch.float32 if job.request.name == "coreml" else torch_dtype(job.request.dtype)


def _arguments(job: Job) -> dict[str, Any]:
    """Of `save`, what only some formats have."""
    request = job.request
    single = request.batch == 1
    if request.name == "coreml":
        names = job.opened.class_names if request.options.softmax and single else None
        return {"half": request.dtype == "fp16", "pixels": request.options.normalise and single, "classes": names}
    if request.name == "onnx":
        return {"opset": request.options.opset or OPSET, "dynamic": request.batch is None}
    return {"dynamic": request.batch is None} if request.name == "torch-export" else {}


def _verified(job: Job, images: RealImages, path: Path) -> verify.Difference | None:
    """The measured difference; None where the file can't be run."""
    original = job.surroundings.around(job.opened.model)
    exported = _loaded(job, path)
    if exported is None:
        return None
    pictures, _ = images.validation(_COMPARED)
    sizes = verify.sizes(len(pictures), job.request.batch is None, job.request.batch or 1)
    try:
        with silenced():
            found = verify.difference(original, exported, in_batches(pictures, sizes))
        verify.check(found, job.tolerance)
    except Exception as error:  # what can't be run is no more use than what is wrong
        raise UserError(
            f"--format {job.request.name}: {one_line(error)[:300]}. Nothing was written to {str(job.request.output)!r}."
        ) from error
    return found


def _loaded(job: Job, path: Path) -> nn.Module | None:
    try:
        with silenced():
            network: nn.Module = job.request.format.load_module().load(path)
    except NotImplementedError:  # an operation of CoreML that only CoreML knows
        return None
    except Exception as error:
        raise UserError(
            f"--format {job.request.name}: {job.request.format.runs_as} can't open what was written "
            f"({one_line(error)[:200]}). Nothing was written to {str(job.request.output)!r}."
        ) from error
    return network


def _details(job: Job, path: Path) -> list[str]:
    with silenced():
        lines: list[str] = job.request.format.load_module().describe(path)
    return lines
