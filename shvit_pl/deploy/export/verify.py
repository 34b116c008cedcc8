"""An export is compared with the network that it is of."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

# Fusing and other orders of summation move float32 by about 1e-6 of the largest output; float16 rounds every layer's
# output to 11 bits, which a hundred layers in a row add up. A wrong operator or weight moves far more.
TOLERANCES = {"fp32": 1e-4, "fp16": 2e-2}


class MismatchError(RuntimeError):
    """An export gives other outputs than its network, in one line."""


@dataclass(frozen=True)
class Difference:
    """How far two networks are apart.

    Attributes:
        largest: Of all outputs' differences, as an absolute value.
        relative: That, as a share of the largest absolute output.
        agreeing: Images of which both name the same class.
        images: Images compared.
        batches: Sizes of the batches that they came in.
    """

    largest: float
    relative: float
    agreeing: int
    images: int
    batches: tuple[int, ...]


def sizes(images: int, dynamic: bool, batch: int) -> list[int]:
    """Batches to compare: of 1, of 3 and of what is left, or all as large as a fixed batch."""
    if dynamic:
        return [1, 3, *(min(16, images - start) for start in range(4, images, 16))]
    return [batch] * max(1, images // batch)


@torch.inference_mode()
def difference(original: nn.Module, exported: nn.Module, batches: Iterable[Tensor]) -> Difference:
    """Run both on the same images.

    Args:
        original: In evaluation mode, on the CPU.
        exported: Likewise.
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
    """Raise `MismatchError` for a relative difference above the tolerance, or one that is no number."""
    if not found.relative <= tolerance:
        raise MismatchError(
            f"it differs from the network by {found.relative:.1e} of the largest output on {found.images} images "
            f"(allowed is {tolerance:.0e}), and names the same class on {found.agreeing}"
        )
