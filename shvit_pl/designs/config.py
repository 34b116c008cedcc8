"""From the settings of a user (`model.design.*`, `create_model(...)`) to one validated design.

The macro cube (patch size x stages x stage-1 mixer) goes around any design, by one rule:

* `stages`: the number of blocks stays. A stage more takes half of the last stage's blocks and goes on with the step in
  width between the last two stages; a stage less hands its blocks to the one before it.
* `patch_size`, `stages`: all widths are then multiplied by one factor, and rounded to multiples of 4, such that MACs
  at the design's image size equal the base's (within 2.5 % around S1-S4 and tiny). Equal parameters instead would cost
  16 times the MACs at patch size 4.
* `stage1`: changes the mixer of the first stage and nothing else, as in the paper's step from (b) to (b'') in Fig. 2:
  parameters stay within 2 %, and attention's extra MACs are its price, which grows with the square of the tokens.
"""

from dataclasses import asdict, dataclass, fields, replace
from functools import lru_cache
from typing import Any, Literal, Self, get_args

from shvit_pl.designs.cost import cost
from shvit_pl.designs.design import PATCH_SIZES, Design, Mixer, SingleHead, one_of
from shvit_pl.designs.named import NAMED
from shvit_pl.errors import UserError, did_you_mean

Stage1 = Literal["conv", "attention"]


@dataclass(frozen=True)
class DesignConfig:
    """A named design and what to change in it."""

    name: str = "s1"
    """The base: s1 to s4 (paper), tiny, or any other name that `shvit-pl designs` prints."""
    patch_size: int | None = None
    """Stride of the stem: 4, 8 or 16. Widths are rescaled to the base's MACs."""
    stages: int | None = None
    """Number of stages. Blocks are shared out and widths rescaled to the base's MACs."""
    stage1: Stage1 | None = None
    """Mixer of the first stage: conv or attention. Nothing else changes."""
    mixers: tuple[Mixer, ...] | None = None
    """Token mixer of each stage: conv (the depthwise convolution alone), single_head (SHSA) or multi_head (MHSA)."""
    embed_dim: tuple[int, ...] | None = None
    """Width of each stage; overrides the rescaling."""
    depth: tuple[int, ...] | None = None
    """Blocks of each stage; overrides the sharing out."""
    partial_ratio: float | None = None
    """Share of the channels that single-head attention sees (paper: 3/14, printed as 1/4.67)."""
    single_head: SingleHead | None = None
    """Fig. 6: attention over a partial slice of the channels, the full width, or in a bottleneck as narrow as it."""
    qk_dim: int | tuple[int, ...] | None = None
    """Query and key channels per head: one number, or one per stage."""
    num_heads: int | tuple[int, ...] | None = None
    """Heads of multi_head mixers: one number, or one per stage."""
    local_conv: bool | None = None
    """Keep the depthwise convolution of attention blocks; false leaves the plain MetaFormer block (Fig. 2)."""
    drop_path: float | None = None
    """Stochastic depth rate of the last block; it grows linearly from 0."""
    distilled: bool | None = None
    """A second classifier for distillation (DeiT): a pair of logits in training, their mean in evaluation."""

    @classmethod
    def from_design(cls, design: Design) -> Self:
        """Return what resolves to a design, apart from the image size that it is meant for."""
        for name, named in NAMED.items():
            if replace(named, drop_path=design.drop_path, image_size=design.image_size) == design:
                return cls(name, drop_path=design.drop_path)
        same = {field.name for field in fields(cls)} & {field.name for field in fields(Design)}
        return cls(stages=design.stages, **{name: getattr(design, name) for name in same})

    def resolve(self) -> Design:
        """Return the design; raises `UserError` for unknown names, impossible values and contradictions."""
        one_of("name", self.name, tuple(NAMED))
        for field in ("mixers", "embed_dim", "depth"):
            if not isinstance(getattr(self, field), list | tuple | None):
                raise UserError(f"{field} {getattr(self, field)!r}: allowed is a list, one entry per stage.")
        for field in ("local_conv", "distilled"):
            if not isinstance(getattr(self, field), bool | None):
                raise UserError(f"{field} {getattr(self, field)!r}: allowed are True and False.")
        if self.stage1 is not None:
            one_of("stage1", self.stage1, get_args(Stage1))
        base = NAMED[self.name]
        stages = self._stage_count(base)
        patch_size = base.patch_size if self.patch_size is None else self.patch_size
        one_of("patch_size", patch_size, PATCH_SIZES)
        embed_dim, depth = (None if value is None else tuple(value) for value in (self.embed_dim, self.depth))
        design = _macro_cell(base, patch_size, stages, embed_dim, depth)
        if self.stage1 is not None:
            if self.mixers and (self.mixers[0] == "conv") != (self.stage1 == "conv"):
                raise UserError(
                    f"stage1 {self.stage1!r}: mixers {list(self.mixers)} has {self.mixers[0]!r} for the first stage; "
                    "give one of the two."
                )
            first: Mixer = "conv"
            if self.stage1 == "attention":  # of the kind of the later stages
                first = next((mixer for mixer in design.mixers if mixer != "conv"), "single_head")
            design = replace(design, mixers=(first, *design.mixers[1:]))
        names = {field.name for field in fields(Design)}
        changes = {key: value for key, value in asdict(self).items() if key in names and value is not None}
        return replace(design, **changes)

    def _stage_count(self, base: Design) -> int:
        """Return `stages`, else the length of the lists if all are given, else the base's; every list must agree."""
        lists = {field: value for field in ("embed_dim", "depth", "mixers") if (value := getattr(self, field))}
        complete = len(lists) == 3 and self.stages is None
        stages = len(lists["embed_dim"]) if complete else base.stages if self.stages is None else self.stages
        if type(stages) is not int or stages < 1:
            raise UserError(f"stages {stages}: allowed are whole numbers from 1.")
        for field, value in lists.items():
            if len(value) != stages:
                raise UserError(
                    f"{field} {list(value)}: it has {len(value)} entries for {stages} stages; give one per stage, "
                    f"or set stages to {len(value)}."
                )
        return stages


def resolve_design(name: str, **changes: Any) -> Design:
    """Return the design called `name` with `changes`, each a field of `DesignConfig`."""
    known = [field.name for field in fields(DesignConfig)]
    for key in changes:
        if key not in known:
            hint = did_you_mean(key, known)
            raise UserError(f"{key}: a design has no such field{hint}; allowed are {', '.join(known)}.")
    return DesignConfig(name, **changes).resolve()


# ---- the macro cube

_WIDTH_STEP = 4  # so that four heads divide every width
_TOLERANCE = 0.05  # of MACs; a further distance is refused


def _macro_cell(
    base: Design, patch_size: int, stages: int, embed_dim: tuple[int, ...] | None, depth: tuple[int, ...] | None
) -> Design:
    """Return `base` at another patch size and number of stages; `embed_dim` and `depth` override the rule."""
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
        return replace(base, embed_dim=widths, **changes)
    return _rescaled(base, widths, tuple(changes.items()))


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
