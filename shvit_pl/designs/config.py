"""From the settings of a user (`model.design.*`, `create_model(...)`) to one validated design."""

from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Self, get_args

from shvit_pl.designs.cube import Stage1, macro_cell
from shvit_pl.designs.design import NAMED, PATCH_SIZES, Design, Mixer, SingleHead, one_of
from shvit_pl.errors import UserError, did_you_mean


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
        if self.stage1 is not None and self.mixers and (self.mixers[0] == "conv") != (self.stage1 == "conv"):
            raise UserError(
                f"stage1 {self.stage1!r}: mixers {list(self.mixers)} has {self.mixers[0]!r} for the first stage; "
                "give one of the two."
            )
        cell = macro_cell(base, patch_size, stages, self.stage1, embed_dim, depth)
        names = {field.name for field in fields(Design)}
        return replace(
            cell, **{key: value for key, value in asdict(self).items() if key in names and value is not None}
        )

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
