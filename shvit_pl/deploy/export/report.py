"""What an export says at its end: what was written, what was measured, and how to use it."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from dataclasses import dataclass

from shvit_pl.deploy.export.request import Request
from shvit_pl.deploy.export.verify import Difference
from shvit_pl.files import size
from shvit_pl.models.open_network import OpenedNetwork


@dataclass(frozen=True)
class Exported:
    """An export that is done.

    Attributes:
        opened: The network.
        request: What was asked for.
        image_size: Side of the images in pixels.
        found: The measured difference; None where the file could not be run.
        tolerance: The relative difference that was allowed.
        details: Further lines about the file.
    """

    opened: OpenedNetwork
    request: Request
    image_size: int
    found: Difference | None
    tolerance: float
    details: list[str]


def runner(request: Request) -> str:
    """What a file is run with, as the end of a sentence."""
    return " by torch, as CoreML can't run here" if _evaluated(request) else f" with {request.format.runs_as}"


def _evaluated(request: Request) -> bool:
    """Whether the file is evaluated by torch instead of the program that it is for."""
    return request.name == "coreml" and platform.system() != "Darwin"


def print_report(done: Exported) -> None:
    """Print it in lines of a name and what it is."""
    print()
    for name, text in _lines(done):
        print(f"  {name:<11}{text}")
    module = done.request.format.load_module()
    batch = done.request.batch or 1
    images = f"torch.rand({batch}, 3, {done.image_size}, {done.image_size})"
    print(f"\nuse it: {module.example_of_use(done.request.output, images)}")


def _lines(done: Exported) -> Iterator[tuple[str, str]]:
    options, batch = done.request.options, done.request.batch or "any"
    yield "file", f"{done.request.output}, {size(done.request.output) / 1e6:.1f} MB, {done.request.name}"
    if done.opened.fresh:
        yield "weights", "fresh: good for measuring speed, and for nothing else"
    pixels = "RGB pixels from 0 to 1" if options.normalise else "normalised RGB"
    yield "input", f"images: ({batch}, 3, {done.image_size}, {done.image_size}), {pixels}"
    names = done.opened.class_names
    labels = "its classes have no names" if names is None else f"{len(names)} labels in the file"
    yield "output", f"{'probabilities' if options.softmax else 'logits'}; {labels}"
    for line in done.details:
        yield "", line
    if _evaluated(done.request):
        yield "not run", "converted and inspected, not run: CoreML runs on macOS only"
    if done.found is not None:
        yield "difference", _difference(done, done.found)


def _difference(done: Exported, found: Difference) -> str:
    measured = (
        "its program, evaluated by torch in float32 with the weights as stored: " if _evaluated(done.request) else ""
    )
    of = " (of float, before int8)" if done.request.options.int8 else ""
    sizes = ", ".join(map(str, found.batches))
    return (
        f"{measured}{found.largest:.1e} at most{of}, {found.relative:.1e} of the largest output (allowed "
        f"{done.tolerance:.0e}); the same class on {found.agreeing} of {found.images} images (digits, in batches "
        f"of {sizes})"
    )
