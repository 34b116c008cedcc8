"""The int8 step of an export: quantise, compare with float on labelled images, refuse what costs too much."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from shvit_pl.deploy.export import int8, onnx_format
from shvit_pl.deploy.export.silence import silenced
from shvit_pl.deploy.images import RealImages
from shvit_pl.deploy.measuring import processor
from shvit_pl.display.words import counted
from shvit_pl.errors import UserError
from shvit_pl.files import remove, size

if TYPE_CHECKING:
    from shvit_pl.deploy.export.export import Job

_MOST = 1000  # validation images
_ALLOWED = 1.0  # points of top-1


def quantised(job: Job, path: Path) -> list[str]:
    """Replace a verified `.onnx` file by its int8 version; returns what was measured.

    Raises:
        UserError: when it costs more than `--int8_tolerance`, or the images are not of the network's classes.
    """
    options = job.request.options
    images = RealImages(job.opened, job.image_size, options.data, normalised=not options.normalise)
    if not images.known:
        raise UserError(
            f"--int8: the classes of {images.path!r} are not those of {job.opened.name!r}, so top-1 means nothing; "
            "give its dataset by --data."
        )
    print(f"quantising with {int8.CALIBRATION} training images of {images.path}", flush=True)
    new = path.with_name(f"{path.stem}_int8{path.suffix}")
    try:
        with silenced():
            int8.quantise(path, new, images.training(int8.CALIBRATION))
        found = _compared(job, images, path, new)
        lines = _said(found, images.path, size(path), size(new))
        new.replace(path)
    finally:
        remove(new)
    return lines


def _compared(job: Job, images: RealImages, before: Path, after: Path) -> int8.Comparison:
    options = job.request.options
    networks = [onnx_format.load(path) for path in (before, after)]
    found = int8.compare(networks[0], networks[1], *images.validation(_MOST), job.request.batch)
    allowed = _ALLOWED if options.int8_tolerance is None else options.int8_tolerance
    if found.drop > allowed:
        raise UserError(
            f"--int8: top-1 falls from {found.accuracies[0]:.2f} to {found.accuracies[1]:.2f} % on {found.images} "
            f"validation images of {images.path} (allowed are {allowed:g} points, by --int8_tolerance). Nothing was "
            f"written to {str(job.request.output)!r}."
        )
    return found


def _said(found: int8.Comparison, data: str, before: int, after: int) -> list[str]:
    (float_, int8_), (slow, fast) = found.accuracies, found.speeds
    return [
        f"int8: top-1 {int8_:.2f} % (float {float_:.2f} %) on {found.images} validation images of {data}; both name "
        f"the same class on {found.agreeing}",
        f"int8: {fast:.0f} images/s (float {slow:.0f}), {after / 1e6:.1f} MB (float {before / 1e6:.1f}); batches of "
        f"{found.batch}, {counted(torch.get_num_threads(), 'thread')}, {processor()}",
    ]
