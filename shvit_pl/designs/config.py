"""From the settings of a user (`model.design.*`, `create_model(...)`) to one validated design."""

from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from typing import Any, Self, get_args

from shvit_pl.designs.cube import Stage1, macro_cell
from shvit_pl.designs.design import LISTS, NAMED, Design, Mixer, SingleHead, field_mistakes
from shvit_pl.errors import UserError, did_you_mean, refuse


@dataclass(frozen=True)
class DesignConfig:
    """A named design and what to change in it."""

    name: str = "s1"
    """The base: s1 to s4 (paper), tiny, or any other name that `shvit-pl designs` prints."""
    patch_size: int | None = None
    """Stride of the stem: 4, 8 or 16. Widths are rescaled to the base's MACs."""
    stages: int | None = None
    """Number of stages. The base's last blocks are split or merged, and widths rescaled to its MACs."""
    stage1: Stage1 | None = None
    """Mixer of the first stage: conv or attention. Nothing else changes."""
    mixers: tuple[Mixer, ...] | None = None
    """Token mixer of each stage: conv (the depthwise convolution alone), single_head (SHSA) or multi_head (MHSA)."""
    embed_dim: tuple[int, ...] | None = None
    """Channels of each stage, instead of rescaled ones."""
    depth: tuple[int, ...] | None = None
    """Blocks of each stage, instead of the base's."""
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

    @cached_property
    def resolved(self) -> Design:
        """The design; raises `UserError` for unknown names, impossible values and contradictions."""
        given = {field: value for field, value in asdict(self).items() if value is not None}
        wrong = field_mistakes(given, name=tuple(NAMED), stage1=get_args(Stage1))
        mistakes, stages = list(wrong.values()), 0
        if not wrong.keys() & {"name", "stages", *LISTS}:
            base, lists = NAMED[self.name], {field: given[field] for field in LISTS if field in given}
            # the stages are as many as asked for, else as the lists have if all are given, else as the base's
            stages = self.stages or (len(given["embed_dim"]) if len(lists) == len(LISTS) else base.stages)
            mistakes += [
                f"{field} {list(value)}: it has {len(value)} entries for {stages} stages; give one per stage, or set "
                f"stages to {len(value)}."
                for field, value in lists.items()
                if len(value) != stages
            ]
        if self.stage1 and self.mixers and not wrong.keys() & {"stage1", "mixers"}:
            first = self.mixers[0]
            if (first == "conv") != (self.stage1 == "conv"):
                mistakes.append(
                    f"stage1 {self.stage1!r}: mixers {list(self.mixers)} has {first!r} for the first stage; give one "
                    "of the two."
                )
        refuse(mistakes)
        embed_dim, depth = (None if value is None else tuple(value) for value in (self.embed_dim, self.depth))
        cell = macro_cell(base, self.patch_size or base.patch_size, stages, self.stage1, embed_dim, depth)
        names = {field.name for field in fields(Design)}
        return replace(cell, **{key: value for key, value in given.items() if key in names})


def resolve_design(name: str, **changes: Any) -> Design:
    """Return the design called `name` with `changes`, each a field of `DesignConfig`."""
    known = [field.name for field in fields(DesignConfig)]
    for key in changes:
        if key not in known:
            hint = did_you_mean(key, known)
            raise UserError(f"{key}: a design has no such field{hint}; allowed are {', '.join(known)}.")
    return DesignConfig(name, **changes).resolved
