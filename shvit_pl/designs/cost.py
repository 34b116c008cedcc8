"""Parameters and multiply-accumulates of a design in closed form: no network is built, torch is not needed.

MACs are those that `torch.utils.flop_counter` counts (half its FLOPs): convolutions and matrix products, not
BatchNorm or activations. The paper's "FLOPs" are the same MACs (Table 2).
"""

from dataclasses import dataclass
from typing import Literal, get_args

from shvit_pl.designs.design import Design

Operation = Literal["stem", "downsampling", "depthwise", "attention", "ffn", "head"]
OPERATIONS: tuple[Operation, ...] = get_args(Operation)
MIXING: dict[str, Operation] = {"single_head": "attention", "multi_head": "attention"}  # by mixer


@dataclass(frozen=True)
class Cost:
    """Parameters, and multiply-accumulates for one image."""

    params: int = 0
    macs: int = 0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.params + other.params, self.macs + other.macs)

    def __mul__(self, number: int) -> "Cost":
        return Cost(self.params * number, self.macs * number)


@dataclass(frozen=True)
class Part:
    """All of one operation in one stage."""

    stage: str
    """`stem`, `stage 1`, ..., or `head`."""
    operation: Operation
    """Kind of operation; downsampling has the convolutions and FFNs that flank it."""
    tokens: int
    """Positions of its output."""
    channels: int
    """Channels of its output, of a head those of its input."""
    cost: Cost
    """Cost in all blocks of the stage."""


def cost(design: Design, num_classes: int = 1000, image_size: int | None = None, in_chans: int = 3) -> Cost:
    """Return the cost of the unfused network for one square image of `image_size` pixels (default: the design's)."""
    return sum((part.cost for part in cost_parts(design, num_classes, image_size, in_chans)), Cost())


def cost_parts(design: Design, num_classes: int = 1000, image_size: int | None = None, in_chans: int = 3) -> list[Part]:
    """Return the parts of `cost`, in the order in which they are computed."""
    side = design.image_size if image_size is None else image_size
    design.check_image_size(side)
    grids = design.grids(side)
    stem, inputs = Cost(), in_chans
    for outputs in design.stem_dim:
        side = -(-side // 2)  # rounded up: padding 1 and stride 2
        stem += _conv(inputs, outputs, side**2, kernel=3)
        inputs = outputs
    parts = [Part("stem", "stem", grids[0] ** 2, inputs, stem)]
    for stage, (grid, dim, depth) in enumerate(zip(grids, design.embed_dim, design.depth, strict=True)):
        name, tokens, attends = f"stage {stage + 1}", grid**2, design.mixers[stage] != "conv"
        if stage > 0:
            merging = _downsample(design.embed_dim[stage - 1], dim, grids[stage - 1] ** 2, tokens)
            parts.append(Part(name, "downsampling", tokens, dim, merging))
        if design.local_conv or not attends:
            parts.append(Part(name, "depthwise", tokens, dim, _depthwise(dim, tokens) * depth))
        if attends:
            mixing = _attention(design, stage, tokens) * depth
            parts.append(Part(name, MIXING[design.mixers[stage]], tokens, dim, mixing))
        parts.append(Part(name, "ffn", tokens, dim, _ffn(dim, tokens) * depth))
    head = Cost(2 * dim + dim * num_classes + num_classes, dim * num_classes)  # BatchNorm and linear layer
    return [*parts, Part("head", "head", 1, dim, head * (2 if design.distilled else 1))]


def _conv(inputs: int, outputs: int, tokens: int, kernel: int = 1, groups: int = 1) -> Cost:
    """Return the cost of a convolution without bias onto `tokens` positions, and its BatchNorm."""
    weights = inputs * outputs * kernel**2 // groups
    return Cost(weights + 2 * outputs, weights * tokens)


def _depthwise(dim: int, tokens: int) -> Cost:
    return _conv(dim, dim, tokens, kernel=3, groups=dim)


def _ffn(dim: int, tokens: int) -> Cost:
    return _conv(dim, 2 * dim, tokens) + _conv(2 * dim, dim, tokens)


def _downsample(before: int, after: int, tokens_before: int, tokens_after: int) -> Cost:
    hidden = 4 * before
    squeezed = max(8, (before + 4) // 8 * 8)  # timm rounds a quarter of the hidden width to a multiple of 8
    squeeze_excite = Cost(2 * hidden * squeezed + squeezed + hidden, 2 * hidden * squeezed)
    merging = _conv(before, hidden, tokens_before) + _depthwise(hidden, tokens_after) + squeeze_excite
    flanks = ((before, tokens_before), (after, tokens_after))
    parts = (_depthwise(dim, tokens) + _ffn(dim, tokens) for dim, tokens in flanks)
    return sum(parts, merging + _conv(hidden, after, tokens_after))


def _attention(design: Design, stage: int, tokens: int) -> Cost:
    dim, attended = design.embed_dim[stage], design.attended(stage)
    query = design.heads(stage) * design.qk(stage)
    scores = Cost(2 * attended, tokens**2 * (query + attended))  # GroupNorm; q @ k and attention @ v
    total = scores + _conv(attended, 2 * query + attended, tokens)
    if design.mixers[stage] == "single_head" and design.single_head == "bottleneck":
        return total + _conv(dim, attended, tokens) + _conv(attended, dim, tokens)
    return total + _conv(dim, dim, tokens)
