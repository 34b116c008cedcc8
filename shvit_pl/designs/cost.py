"""Parameters and multiply-accumulates of a design in closed form: no network is built, torch is not needed.

MACs are those that `torch.utils.flop_counter` counts (half its FLOPs): convolutions and matrix products, not
BatchNorm or activations. The paper's "FLOPs" are the same MACs (Table 2).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

from shvit_pl.designs.design import Design

Operation = Literal["stem", "downsampling", "depthwise", "attention", "ffn", "head"]
OPERATIONS: tuple[Operation, ...] = get_args(Operation)


@dataclass(frozen=True)
class Cost:
    """Parameters, and multiply-accumulates for one image."""

    params: int = 0
    macs: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.params + other.params, self.macs + other.macs)

    def times(self, number: int) -> Cost:
        """The cost of so many alike."""
        return Cost(self.params * number, self.macs * number)


@dataclass(frozen=True)
class Part:
    """All of one operation in one stage.

    Attributes:
        stage: `stem`, `stage 1`, ..., or `head`.
        operation: What is done there; downsampling has the convolutions and FFNs that flank it.
        tokens: Positions of its output.
        channels: Channels of its output, of a head those of its input.
        cost: Of all blocks of the stage.
    """

    stage: str
    operation: Operation
    tokens: int
    channels: int
    cost: Cost


def cost(design: Design, num_classes: int = 1000, image_size: int | None = None) -> Cost:
    """Cost of the unfused network for one square image of `image_size` pixels (default: the design's own)."""
    return sum((part.cost for part in cost_parts(design, num_classes, image_size)), Cost())


def cost_parts(design: Design, num_classes: int = 1000, image_size: int | None = None) -> list[Part]:
    """The parts of `cost`, in the order in which they are computed."""
    side = design.image_size if image_size is None else image_size
    design.check_image_size(side)
    grids = design.grids(side)
    parts = [Part("stem", "stem", grids[0] ** 2, design.embed_dim[0], _stem(design, side))]
    for stage in range(design.stages):
        parts += _stage(design, stage, grids)
    dim = design.embed_dim[-1]
    head = Cost(2 * dim + dim * num_classes + num_classes, dim * num_classes)
    return [*parts, Part("head", "head", 1, dim, head.times(2 if design.distilled else 1))]


def _stage(design: Design, stage: int, grids: tuple[int, ...]) -> Iterator[Part]:
    name, tokens, dim, depth = f"stage {stage + 1}", grids[stage] ** 2, design.embed_dim[stage], design.depth[stage]
    conv_only = design.mixers[stage] == "conv"
    if stage > 0:
        merging = _downsample(design.embed_dim[stage - 1], dim, grids[stage - 1] ** 2, tokens)
        yield Part(name, "downsampling", tokens, dim, merging)
    if conv_only or design.local_conv:
        yield Part(name, "depthwise", tokens, dim, _depthwise(dim, tokens).times(depth))
    if not conv_only:
        yield Part(name, "attention", tokens, dim, _attention(design, stage, tokens).times(depth))
    yield Part(name, "ffn", tokens, dim, _ffn(dim, tokens).times(depth))


def _conv(inputs: int, outputs: int, tokens: int, kernel: int = 1, groups: int = 1) -> Cost:
    """A convolution without bias onto `tokens` positions, and its BatchNorm."""
    weights = inputs * outputs * kernel**2 // groups
    return Cost(weights + 2 * outputs, weights * tokens)


def _depthwise(dim: int, tokens: int) -> Cost:
    return _conv(dim, dim, tokens, kernel=3, groups=dim)


def _ffn(dim: int, tokens: int) -> Cost:
    return _conv(dim, 2 * dim, tokens) + _conv(2 * dim, dim, tokens)


def _stem(design: Design, side: int) -> Cost:
    total, inputs = Cost(), 3
    for outputs in design.stem_dim:
        side = -(-side // 2)
        total += _conv(inputs, outputs, side**2, kernel=3)
        inputs = outputs
    return total


def _downsample(before: int, after: int, tokens_before: int, tokens_after: int) -> Cost:
    hidden = 4 * before
    squeezed = max(8, (before + 4) // 8 * 8)  # timm rounds a quarter of the hidden width to a multiple of 8
    squeeze_excite = Cost(2 * hidden * squeezed + squeezed + hidden, 2 * hidden * squeezed)
    merging = _conv(before, hidden, tokens_before) + _depthwise(hidden, tokens_after) + squeeze_excite
    flanks = (
        _depthwise(before, tokens_before)
        + _ffn(before, tokens_before)
        + _depthwise(after, tokens_after)
        + _ffn(after, tokens_after)
    )
    return merging + _conv(hidden, after, tokens_after) + flanks


def _attention(design: Design, stage: int, tokens: int) -> Cost:
    dim, attended = design.embed_dim[stage], design.attended(stage)
    query = design.heads(stage) * design.qk(stage)
    scores = Cost(2 * attended, tokens**2 * (query + attended))  # GroupNorm; q @ k and attention @ v
    total = scores + _conv(attended, 2 * query + attended, tokens)
    if design.mixers[stage] == "single_head" and design.single_head == "bottleneck":
        return total + _conv(dim, attended, tokens) + _conv(attended, dim, tokens)
    return total + _conv(dim, dim, tokens)
