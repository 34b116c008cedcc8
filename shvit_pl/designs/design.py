"""A SHViT design: the macro and micro choices as one frozen, validated description; and the designs with a name."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from math import floor
from typing import Any, Literal, get_args

from shvit_pl.errors import UserError, did_you_mean, refuse

Mixer = Literal["conv", "single_head", "multi_head"]
ATTENTION = ("single_head", "multi_head")
SingleHead = Literal["partial", "full", "bottleneck"]

Fingerprint = tuple[Any, ...]

PAPER_RATIO = 3 / 14  # r of section 3.1, printed rounded, as 1/4.67
LISTS = ("embed_dim", "depth", "mixers")
_PER_STAGE = (*LISTS, "qk_dim", "num_heads")
_CHOICES: dict[str, Collection[Any]] = {
    "patch_size": (4, 8, 16),
    "single_head": get_args(SingleHead),
    "mixers": get_args(Mixer),
    "local_conv": (True, False),
    "distilled": (True, False),
}
_RANGES: dict[str, tuple[str, Callable[[float], bool]]] = {
    "partial_ratio": ("is a number above 0, at most 1", lambda value: 0 < value <= 1),
    "drop_path": ("is a number from 0 to below 1", lambda value: 0 <= value < 1),
}


@dataclass(frozen=True)
class Design:
    """The architecture of one SHViT.

    Stage `i` (from 0) works at stride `patch_size * 2**i`. Every block is a depthwise 3x3 convolution, the stage's
    mixer and an FFN of ratio 2, each with a residual (paper sec. 3.1 and Fig. 5, with the official code's order). The
    fields are those that `DesignConfig` describes.

    Raises `UserError` (a `ValueError`) with the field, its value and what is allowed.
    """

    embed_dim: tuple[int, ...]
    depth: tuple[int, ...]
    mixers: tuple[Mixer, ...]
    patch_size: int = 16
    partial_ratio: float = PAPER_RATIO
    single_head: SingleHead = "partial"
    qk_dim: int | tuple[int, ...] = 16
    num_heads: int | tuple[int, ...] = 4
    local_conv: bool = True
    drop_path: float = 0.0
    distilled: bool = False
    image_size: int = 224
    """Side in pixels that the design is meant for; its costs are stated at this size."""

    def __post_init__(self) -> None:
        for field in _PER_STAGE:
            value = getattr(self, field)
            if isinstance(value, list):  # YAML and JSON have no tuples
                object.__setattr__(self, field, tuple(value))
        refuse(field_mistakes(vars(self)).values())
        refuse(self._length_mistakes())
        refuse(self._width_mistakes())
        self.check_image_size(self.image_size)

    @property
    def stages(self) -> int:
        """Number of stages."""
        return len(self.embed_dim)

    @property
    def strides(self) -> tuple[int, ...]:
        """Stride of each stage's output in pixels."""
        return tuple(self.patch_size * 2**i for i in range(self.stages))

    @property
    def stem_dim(self) -> tuple[int, ...]:
        """Output channels of the stem's convolutions: they double up to the first stage's width."""
        halvings = self.patch_size.bit_length() - 2
        return tuple(self.embed_dim[0] // 2**i for i in range(halvings, -1, -1))

    @property
    def fingerprint(self) -> Fingerprint:
        """A hashable description that is equal for designs that compute the same, apart from their classifiers.

        Left out is what does not change it: the image size that the design is meant for, stochastic depth, and
        settings of attention where there is none. A `partial_ratio` counts by the channels that it leaves.
        """
        stages: list[Fingerprint] = []
        for stage, mixer in enumerate(self.mixers):
            size = self.embed_dim[stage], self.depth[stage]
            if mixer == "conv":
                stages.append((mixer, *size))
                continue
            name = "attention" if mixer in ATTENTION else mixer  # multi_head with one head is the same as single_head
            bottleneck = mixer == "single_head" and self.single_head == "bottleneck"
            attention = self.attended(stage), bottleneck, self.heads(stage), self.qk(stage)
            stages.append((name, *size, *attention, self.local_conv))
        return self.patch_size, *stages

    @property
    def timm_name(self) -> str | None:
        """Name of the network at timm, where timm has it: S1 to S4 with one classifier."""
        if self.distilled:
            return None
        same = (name for ours, name in TIMM_NAMES.items() if NAMED[ours].fingerprint == self.fingerprint)
        return next(same, None)

    def heads(self, stage: int) -> int:
        """Return the heads of the attention in `stage`."""
        return _at_stage(self.num_heads, stage) if self.mixers[stage] == "multi_head" else 1

    def qk(self, stage: int) -> int:
        """Return the query (and key) channels per head in `stage`."""
        return _at_stage(self.qk_dim, stage)

    def attended(self, stage: int) -> int:
        """Return the channels that the attention of `stage` works on: floor(r * C), as in the official widths.

        The tolerance of 0.1 channel lets the paper's rounded 1/4.67 give the same widths as 3/14.
        """
        dim = self.embed_dim[stage]
        if self.mixers[stage] == "multi_head" or self.single_head == "full":
            return dim
        return floor(dim * self.partial_ratio + 0.1)

    def grids(self, image_size: int) -> tuple[int, ...]:
        """Return the side of each stage's token grid for a square image (a stride-2 convolution rounds up)."""
        return tuple(-(-image_size // stride) for stride in self.strides)

    def check_image_size(self, side: int) -> None:
        """Raise `UserError` when an image side in pixels is below the last stage's stride."""
        if side < self.strides[-1]:
            raise UserError(
                f"image_size {side}: this design halves the image down to stride {self.strides[-1]}, "
                f"so sides of {self.strides[-1]} pixels or more are allowed. "
                "Give larger images, fewer stages or a smaller patch_size."
            )

    def _length_mistakes(self) -> Iterator[str]:
        for field in _PER_STAGE[1:]:
            value = getattr(self, field)
            if isinstance(value, tuple) and len(value) != self.stages:
                yield (
                    f"{field} {list(value)}: it has {len(value)} entries where embed_dim {list(self.embed_dim)} "
                    f"has {self.stages}; give one per stage."
                )

    def _width_mistakes(self) -> Iterator[str]:
        divisor = self.patch_size // 2
        if self.embed_dim[0] % divisor:
            yield (
                f"embed_dim {list(self.embed_dim)}: the first width is halved {divisor.bit_length() - 1} times in the "
                f"stem of patch_size {self.patch_size}, so it must be a multiple of {divisor}."
            )
        for stage, dim in enumerate(self.embed_dim):
            if self.mixers[stage] == "multi_head" and dim % self.heads(stage):
                yield (
                    f"num_heads {self.heads(stage)}: it must divide the width {dim} of stage {stage + 1}; "
                    f"embed_dim is {list(self.embed_dim)}."
                )
                break
            if self.mixers[stage] != "conv" and self.attended(stage) < 1:
                yield (
                    f"partial_ratio {self.partial_ratio}: it leaves no channel of the {dim} in stage {stage + 1} to "
                    f"attend to; {1 / dim:.4f} or more is allowed."
                )
                break


def _at_stage(value: int | Sequence[int], stage: int) -> int:
    """Return one stage's entry of a setting that is one number for all stages or one per stage."""
    return value if isinstance(value, int) else value[stage]


def field_mistakes(settings: Mapping[str, Any], **choices: Collection[Any]) -> dict[str, str]:
    """Return a message for each field of a design whose value is never allowed; `choices` are those of more fields."""
    mistakes, choices = {}, _CHOICES | choices
    for field, value in settings.items():
        is_list = field in _PER_STAGE and isinstance(value, list | tuple)
        entries, allowed = value if is_list else (value,), ""
        if field in LISTS and not (is_list and value):
            allowed = "is a list, one entry per stage"
        elif field in choices:
            for value in entries:
                if value not in choices[field]:
                    hint = did_you_mean(str(value), map(str, choices[field]))
                    allowed = f"are {', '.join(map(str, choices[field]))}{hint}"
                    break
        elif field in (*_PER_STAGE, "stages"):
            is_whole = (isinstance(entry, int) and entry is not True and entry > 0 for entry in entries)
            allowed = "" if entries and all(is_whole) else "are whole numbers from 1"
        elif field in _RANGES:
            text, is_inside = _RANGES[field]
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            allowed = "" if is_number and is_inside(value) else text
        if allowed:
            mistakes[field] = f"{field} {list(value) if isinstance(value, tuple) else value!r}: allowed {allowed}."
    return mistakes


def design_of(settings: Mapping[str, Any]) -> Design:
    """Return the design of settings among others, such as those in a run's `summary.json`."""
    names = {field.name for field in fields(Design)}
    return Design(**{key: value for key, value in settings.items() if key in names})


# ---- the designs with a name: the paper's S1-S4, its macro study and Table 6, and our `tiny`
#
# What the paper leaves open (facts it does not print, so several choices fit) and what we chose:
#
# * Macro study (Fig. 2): attention heads and widths, FFN ratio and downsampling. Ours: plain MetaFormer blocks (one
#   token mixer and an FFN of ratio 2), SHViT's own downsampling, queries and keys half as wide as the values.
# * Table 6, "MHSA": heads and widths. Ours: 4 heads over all channels, 16 query and key channels per head as in SHSA.

_SHVIT: tuple[Mixer, ...] = ("conv", "single_head", "single_head")
_MULTI: tuple[Mixer, ...] = ("conv", "multi_head", "multi_head")
_CONV: tuple[Mixer, ...] = ("conv", "conv", "conv")

_S3 = Design(embed_dim=(192, 352, 448), depth=(3, 5, 5), mixers=_SHVIT)
_MACRO_B = Design((128, 256, 384), depth=(2, 4, 2), mixers=_MULTI, num_heads=(4, 8, 12), local_conv=False)

NAMED: dict[str, Design] = {
    # Table 1
    "s1": Design(embed_dim=(128, 224, 320), depth=(2, 4, 5), mixers=_SHVIT),
    "s2": Design(embed_dim=(128, 308, 448), depth=(2, 4, 5), mixers=_SHVIT),
    "s3": _S3,
    "s4": Design(embed_dim=(224, 336, 448), depth=(4, 7, 6), mixers=_SHVIT, image_size=256),
    # Figure 2: (a), (b) and (b''); (b') is (b) at 256 pixels
    "macro_a": Design(
        embed_dim=(24, 48, 184, 368),
        depth=(1, 1, 4, 2),
        mixers=("conv", "conv", "multi_head", "multi_head"),
        patch_size=4,
        qk_dim=23,
        num_heads=(1, 1, 4, 8),
        local_conv=False,
    ),
    "macro_b": _MACRO_B,
    "macro_b_attn": replace(_MACRO_B, mixers=("multi_head",) * 3),
    # Table 6, on S3
    "s3_mhsa": replace(_S3, mixers=_MULTI),
    "s3_no_attention": replace(_S3, mixers=_CONV),
    "s3_ratio_1_8": replace(_S3, partial_ratio=1 / 8),
    "s3_ratio_1_2": replace(_S3, partial_ratio=1 / 2),
    # ours, not the paper's: for tests and quick studies
    "tiny": Design(embed_dim=(80, 112, 160), depth=(1, 2, 2), mixers=_SHVIT, image_size=128),
}

TIMM_NAMES = {"s1": "shvit_s1", "s2": "shvit_s2", "s3": "shvit_s3", "s4": "shvit_s4"}
