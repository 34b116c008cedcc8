"""How many pixels an output position depends on, in closed form."""

from __future__ import annotations

from collections.abc import Iterator

from shvit_pl.analysis.macro.places import Place
from shvit_pl.designs.design import Design

_KERNEL = 3  # of all convolutions that are not 1x1


def receptive_fields(design: Design, image_size: int) -> dict[Place, int]:
    """The side in pixels of what each operation's output sees, of the last one in its stage, at most the image's.

    A convolution of kernel k adds k - 1 positions of its input; attention sees all positions, so from its first one on
    it is the image. The gates of squeeze-and-excitation, one number per channel, are left out.

    Args:
        design: The network's.
        image_size: Side of the images in pixels.
    """
    fields: dict[Place, int] = {}
    field, step = 1, 1
    for place, strides in _convolutions(design):
        for stride in strides:
            field += (_KERNEL - 1) * step
            step *= stride
        if place[1] in ("attention", "head"):
            field = image_size
        fields[place] = min(field, image_size)
    return fields


def _convolutions(design: Design) -> Iterator[tuple[Place, tuple[int, ...]]]:
    """Operations in the order in which they are computed, with the strides of their 3x3 convolutions."""
    yield ("stem", "stem"), (2,) * len(design.stem_dim)
    for number, (depth, mixer) in enumerate(zip(design.depth, design.mixers, strict=True)):
        stage = f"stage {number + 1}"
        if number > 0:
            yield (stage, "downsampling"), (1, 2, 1)
        for _ in range(depth):
            if mixer == "conv" or design.local_conv:
                yield (stage, "depthwise"), (1,)
            if mixer != "conv":
                yield (stage, "attention"), ()
            yield (stage, "ffn"), ()
    yield ("head", "head"), ()
