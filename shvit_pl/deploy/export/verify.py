"""Comparison of an exported file with its network, and silence for converters and runtimes."""

from __future__ import annotations

import io
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from typing import IO

import torch
from torch import Tensor, nn

# Fusing and other orders of summation move float32 by about 1e-6 of the largest output; float16 rounds every layer's
# output to 11 bits, which a hundred layers in a row add up. A wrong operator or weight moves far more.
TOLERANCES = {"fp32": 1e-4, "fp16": 2e-2}
_STREAMS = (1, 2)  # libraries in C++ write to the descriptors


class MismatchError(RuntimeError):
    """The message that an export gives other outputs than its network, in one line."""


@dataclass(frozen=True)
class Difference:
    """The difference of two networks' outputs."""

    largest: float
    """Largest absolute difference of all outputs."""
    relative: float
    """Largest difference as a share of the largest absolute output."""
    agreeing: int
    """Images on which both have the same top-1 class."""
    images: int
    """Images compared."""
    batches: tuple[int, ...]
    """Sizes of the batches."""


def batch_sizes(images: int, fixed: int | None) -> list[int]:
    """Return sizes of batches to compare: of 1, of 3 and of the rest, or all as large as a fixed batch."""
    if fixed is None:
        return [1, 3, *(min(16, images - start) for start in range(4, images, 16))]
    return [fixed] * max(1, images // fixed)


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


def check(found: Difference, tolerance: float) -> None:
    """Raise `MismatchError` for a relative difference above the tolerance, or one that is NaN."""
    if not found.relative <= tolerance:
        raise MismatchError(
            f"it differs from the network by {found.relative:.1e} of the largest output on {found.images} images "
            f"(allowed is {tolerance:.0e}), and names the same class on {found.agreeing}"
        )


@contextmanager
def silenced() -> Iterator[None]:
    """Keep warnings, logs, progress bars and prints of a block from the terminal; its exceptions pass."""
    sys.stdout.flush()
    sys.stderr.flush()
    level = logging.root.manager.disable
    kept = [os.dup(stream) for stream in _STREAMS]
    with tempfile.TemporaryFile() as sink, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        _redirect(sink)
        try:
            with (
                io.StringIO() as printed,
                redirect_stdout(printed),
                redirect_stderr(printed),
            ):
                yield
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for stream, copy in zip(_STREAMS, kept, strict=True):
                os.dup2(copy, stream)
                os.close(copy)
            logging.disable(level)


def _redirect(sink: IO[bytes]) -> None:
    for stream in _STREAMS:
        os.dup2(sink.fileno(), stream)
