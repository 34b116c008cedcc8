"""From what a user asks for (`model.design.*`, `create_model(...)`) to one validated design."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from typing import Any, get_args

from shvit_pl.designs.cube import Stage1, macro_cell, with_stage1
from shvit_pl.designs.design import PATCH_SIZES, Design, Mixer, SingleHead, one_of
from shvit_pl.designs.named import NAMED, named_design
from shvit_pl.errors import UserError, did_you_mean


@dataclass(frozen=True)
class DesignConfig:
    """A named design and what to change in it.

    Attributes:
        name: The base: s1 to s4 (paper), tiny, or any other name that `shvit-pl designs` prints.
        patch_size: Stride of the stem: 4, 8 or 16. Widths are rescaled to the base's MACs.
        stages: Number of stages. Blocks are shared out and widths rescaled to the base's MACs.
        stage1: Mixer of the first stage: conv or attention. Nothing else changes.
        mixers: Mixer of each stage: conv, single_head or multi_head.
        embed_dim: Width of each stage; overrides the rescaling.
        depth: Blocks of each stage; overrides the sharing out.
        partial_ratio: Share of the channels that single-head attention sees (paper: 3/14, printed as 1/4.67).
        single_head: Fig. 6: partial, full or bottleneck.
        qk_dim: Query and key channels per head: one number, or one per stage.
        num_heads: Heads of multi_head mixers: one number, or one per stage.
        local_conv: Whether attention blocks keep their depthwise convolution.
        drop_path: Stochastic depth rate of the last block.
        distilled: A second classifier for distillation.
    """

    name: str = "s1"
    patch_size: int | None = None
    stages: int | None = None
    stage1: Stage1 | None = None
    mixers: tuple[Mixer, ...] | None = None
    embed_dim: tuple[int, ...] | None = None
    depth: tuple[int, ...] | None = None
    partial_ratio: float | None = None
    single_head: SingleHead | None = None
    qk_dim: int | tuple[int, ...] | None = None
    num_heads: int | tuple[int, ...] | None = None
    local_conv: bool | None = None
    drop_path: float | None = None
    distilled: bool | None = None

    @classmethod
    def from_design(cls, design: Design) -> DesignConfig:
        """Return what resolves to a design, apart from the image size that it is meant for."""
        for name, named in NAMED.items():
            if replace(named, drop_path=design.drop_path, image_size=design.image_size) == design:
                return cls(name, drop_path=design.drop_path)
        same = {field.name for field in fields(cls)} & {field.name for field in fields(Design)}
        return cls(stages=design.stages, **{name: getattr(design, name) for name in same})

    def resolve(self) -> Design:
        """Return the design; raises `UserError` for unknown names, impossible values and contradictions."""
        self._check_types()
        base = named_design(self.name)
        stages = self._stage_count(base)
        self._check_stage1()
        patch_size = base.patch_size if self.patch_size is None else self.patch_size
        one_of("patch_size", patch_size, PATCH_SIZES)
        embed_dim, depth = (None if value is None else tuple(value) for value in (self.embed_dim, self.depth))
        design = macro_cell(base, patch_size, stages, embed_dim, depth)
        if self.stage1 is not None:
            design = with_stage1(design, self.stage1)
        names = {field.name for field in fields(Design)}
        changes = {key: value for key, value in asdict(self).items() if key in names and value is not None}
        return replace(design, **changes)

    def _check_types(self) -> None:
        for field in ("mixers", "embed_dim", "depth"):
            if not isinstance(getattr(self, field), list | tuple | None):
                raise UserError(f"{field} {getattr(self, field)!r}: allowed is a list, one entry per stage.")
        for field in ("local_conv", "distilled"):
            if not isinstance(getattr(self, field), bool | None):
                raise UserError(f"{field} {getattr(self, field)!r}: allowed are True and False.")
        if self.stage1 is not None:
            one_of("stage1", self.stage1, get_args(Stage1))

    def _stage_count(self, base: Design) -> int:
        """`stages`, or what all three lists together say, or the base's; every list must agree."""
        lists = {field: value for field in ("embed_dim", "depth", "mixers") if (value := getattr(self, field))}
        whole = len(lists) == 3 and self.stages is None
        stages = len(lists["embed_dim"]) if whole else base.stages if self.stages is None else self.stages
        if type(stages) is not int or stages < 1:
            raise UserError(f"stages {stages}: allowed are whole numbers from 1.")
        for field, value in lists.items():
            if len(value) != stages:
                raise UserError(
                    f"{field} {list(value)}: it has {len(value)} entries for {stages} stages; give one per stage, "
                    f"or set stages to {len(value)}."
                )
        return stages

    def _check_stage1(self) -> None:
        if self.stage1 is None or not self.mixers:
            return
        if (self.mixers[0] == "conv") != (self.stage1 == "conv"):
            raise UserError(
                f"stage1 {self.stage1!r}: mixers {list(self.mixers)} says {self.mixers[0]!r} for the first stage; "
                "give one of the two."
            )


def resolve_design(name: str, **changes: Any) -> Design:
    """Return the design called `name` with `changes`, each a field of `DesignConfig`."""
    known = [field.name for field in fields(DesignConfig)]
    for key in changes:
        if key not in known:
            hint = did_you_mean(key, known)
            raise UserError(f"{key}: no such choice of a design{hint}; allowed are {', '.join(known)}.")
    return DesignConfig(name, **changes).resolve()
