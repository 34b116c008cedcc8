"""The macro cube: patch size x stages x stage-1 mixer around any design, by one rule.

The rule, axis by axis:

* `stages`: the number of blocks stays. A stage more takes half of the last stage's blocks and goes on with the step in
  width between the last two stages; a stage less hands its blocks to the one before it.
* `patch_size`, `stages`: all widths are then multiplied by one factor, and rounded to multiples of 4, such that MACs
  at the design's image size equal the base's (within 2.5 % around S1-S4 and tiny). Equal parameters instead would cost
  16 times the MACs at patch size 4.
* `stage1`: changes the mixer of the first stage and nothing else, as in the paper's step from (b) to (b'') in Fig. 2:
  parameters stay within 2 %, and attention's extra MACs are its price, which grows with the square of the tokens.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any, Literal

from shvit_pl.designs.cost import cost
from shvit_pl.designs.design import Design
from shvit_pl.errors import UserError

Stage1 = Literal["conv", "attention"]

_WIDTH_STEP = 4  # so that four heads divide every width
_TOLERANCE = 0.05  # of MACs; a further distance is refused


def macro_cell(
    base: Design,
    patch_size: int,
    stages: int,
    embed_dim: tuple[int, ...] | None = None,
    depth: tuple[int, ...] | None = None,
) -> Design:
    """Return `base` at another patch size and number of stages; `embed_dim` and `depth` override the rule."""
    per_stage = {field: _stretch(getattr(base, field), stages) for field in ("mixers", "qk_dim", "num_heads")}
    step = base.embed_dim[-1] - base.embed_dim[-2] if base.stages > 1 else 0
    further = tuple(base.embed_dim[-1] + step * i for i in range(1, stages - base.stages + 1))
    widths = embed_dim or (base.embed_dim + further)[:stages]
    image_size = max(base.image_size, patch_size * 2 ** (stages - 1))  # a further stage may need larger images
    changes = dict(
        patch_size=patch_size, image_size=image_size, depth=depth or _shared_depth(base.depth, stages), **per_stage
    )
    if embed_dim or (patch_size, stages) == (base.patch_size, base.stages):
        return replace(base, embed_dim=widths, **changes)
    return _rescaled(base, widths, tuple(changes.items()))


def with_stage1(design: Design, stage1: Stage1) -> Design:
    """Return `design` with the first stage's mixer set: attention is of the later stages' kind (SHSA in S1-S4)."""
    first = design.mixers[0]
    if stage1 == "conv":
        first = "conv"
    elif first == "conv":
        first = next((mixer for mixer in design.mixers if mixer != "conv"), "single_head")
    return replace(design, mixers=(first, *design.mixers[1:]))


def _stretch(value: Any, stages: int) -> Any:
    """Return a per-stage setting for another number of stages: cut, or its last entry repeated."""
    return value if isinstance(value, int) else (value + value[-1:] * stages)[:stages]


def _shared_depth(depth: tuple[int, ...], stages: int) -> tuple[int, ...]:
    blocks = list(depth)
    while len(blocks) > stages:
        blocks[-2:] = [blocks[-2] + blocks[-1]]
    while len(blocks) < stages:
        last = blocks.pop()
        if last < 2:
            raise UserError(
                f"stages {stages}: the base's depth {list(depth)} has too few blocks in its last stage to share; "
                f"give depth with {stages} entries."
            )
        blocks += [last - last // 2, last // 2]
    return tuple(blocks)


@lru_cache(maxsize=256)
def _rescaled(base: Design, widths: tuple[int, ...], changes: tuple[tuple[str, Any], ...]) -> Design:
    """Return the design whose widths are nearest to equal MACs with `base`, of 281 that are tried."""
    settings = dict(changes)
    target = cost(base).macs
    expected = settings["patch_size"] / base.patch_size  # widths and tokens change MACs about alike
    first_step = max(_WIDTH_STEP, settings["patch_size"] // 2)  # the stem halves the first width
    steps = (first_step, *(_WIDTH_STEP,) * (len(widths) - 1))
    candidates = {
        tuple(max(1, round(width * factor / step)) * step for width, step in zip(widths, steps, strict=True))
        for factor in (expected * 1.005**exponent for exponent in range(-140, 141))  # half to twice the expected one
    }
    best, distance, refused = None, _TOLERANCE, ""
    for dims in sorted(candidates):
        try:
            design = replace(base, embed_dim=dims, **settings)
        except UserError as error:  # such as heads that do not divide this width
            refused = f" Refused: {error}"
            continue
        off = abs(cost(design).macs / target - 1)
        if off < distance:
            best, distance = design, off
    if best is None:
        raise UserError(
            f"patch_size {settings['patch_size']}, stages {len(widths)}: no multiple of the widths {list(widths)} "
            f"comes within {_TOLERANCE:.0%} of the base's {target / 1e6:.0f} MMACs; give embed_dim with {len(widths)} "
            f"entries.{refused}"
        )
    return best
