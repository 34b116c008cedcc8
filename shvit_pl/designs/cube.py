"""The macro cube (patch size x stages x stage-1 mixer), which goes around any design by one rule.

* `stages`: the number of blocks stays. One more stage takes half of the last stage's blocks and goes on with the step
  in width between the last two stages; one stage less hands its blocks to the one before it.
* `patch_size`, `stages`: all widths are then multiplied by one factor, and rounded to multiples of 4, such that MACs
  at the design's image size equal the base's (within 2.5 % around S1-S4 and tiny). Equal parameters instead would cost
  16 times the MACs at patch size 4.
* `stage1`: changes the mixer of the first stage and nothing else, as in the paper's step from (b) to (b'') in Fig. 2:
  parameters stay within 2 %, and attention's extra MACs are its price, which grows with the square of the tokens.
"""

from dataclasses import replace
from functools import lru_cache
from itertools import product
from typing import Any, Literal

from shvit_pl.designs.cost import cost
from shvit_pl.designs.design import ATTENTION, Design, Mixer
from shvit_pl.errors import UserError

Stage1 = Literal["conv", "attention"]

CELLS: list[dict[str, Any]] = [
    {"patch_size": patch_size, "stages": stages, "stage1": stage1}
    for patch_size, stages, stage1 in product((4, 16), (3, 4), ("conv", "attention"))
]

_WIDTH_STEP = 4  # so that four heads divide every width
_TOLERANCE = 0.05  # relative difference in MACs; a larger one is refused


def macro_cell(
    base: Design,
    patch_size: int,
    stages: int,
    stage1: Stage1 | None = None,
    embed_dim: tuple[int, ...] | None = None,
    depth: tuple[int, ...] | None = None,
) -> Design:
    """Return `base` at another place of the cube; `embed_dim` and `depth` override the rule.

    Raises `UserError` for too few blocks to split, and where no widths come near the base's MACs.
    """
    per_stage = {field: getattr(base, field) for field in ("mixers", "qk_dim", "num_heads")}
    for field, value in per_stage.items():
        if not isinstance(value, int):  # cut, or its last entry repeated
            per_stage[field] = (value + value[-1:] * stages)[:stages]
    step = base.embed_dim[-1] - base.embed_dim[-2] if base.stages > 1 else 0
    further = tuple(base.embed_dim[-1] + step * i for i in range(1, stages - base.stages + 1))
    widths = embed_dim or (base.embed_dim + further)[:stages]
    image_size = max(base.image_size, patch_size * 2 ** (stages - 1))  # a further stage may need larger images
    depth = depth or _shared_depth(base.depth, stages)
    changes = dict(patch_size=patch_size, image_size=image_size, depth=depth, **per_stage)
    if embed_dim or (patch_size, stages) == (base.patch_size, base.stages):
        design = replace(base, embed_dim=widths, **changes)
    else:
        design = _rescaled(base, widths, tuple(changes.items()))
    if stage1 is None:
        return design
    first: Mixer = "conv"
    if stage1 == "attention":  # the same kind as in the later stages
        first = next((mixer for mixer in design.mixers if mixer in ATTENTION), "single_head")
    return replace(design, mixers=(first, *design.mixers[1:]))


def _shared_depth(depth: tuple[int, ...], stages: int) -> tuple[int, ...]:
    blocks = list(depth)
    while len(blocks) > stages:
        blocks[-2:] = [blocks[-2] + blocks[-1]]
    while len(blocks) < stages:
        last = blocks.pop()
        if last < 2:
            raise UserError(
                f"stages {stages}: the base's depth {list(depth)} has too few blocks in its last stage to split; "
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
