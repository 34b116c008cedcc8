"""When two designs are the same network, however they were asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from shvit_pl.designs.design import Design
from shvit_pl.designs.named import NAMED, TIMM_NAMES

Fingerprint = tuple[Any, ...]
_ATTENTION = ("single_head", "multi_head")  # the same network where the second has one head


def design_of(summary: Mapping[str, Any]) -> Design:
    """The design in a run's `summary.json`."""
    names = {field.name for field in fields(Design)}
    return Design(**{key: value for key, value in summary["design"].items() if key in names})


def fingerprint(design: Design) -> Fingerprint:
    """What a design computes in evaluation, apart from its classifiers: equal for the same network, and hashable.

    Left out is what does not change it: the image size that the design is meant for, stochastic depth, and settings of
    attention where there is none. A `partial_ratio` counts by the channels that it leaves.
    """
    return design.patch_size, *(_stage(design, stage) for stage in range(design.stages))


def _stage(design: Design, stage: int) -> Fingerprint:
    size, mixer = (design.embed_dim[stage], design.depth[stage]), design.mixers[stage]
    if mixer not in _ATTENTION:
        return mixer, *size
    bottleneck = mixer == "single_head" and design.single_head == "bottleneck"
    return *size, design.attended(stage), bottleneck, design.heads(stage), design.qk(stage), design.local_conv


def timm_name(design: Design) -> str | None:
    """Timm's own name of the network, where timm has it: S1 to S4 with one classifier."""
    if design.distilled:
        return None
    return next((name for ours, name in TIMM_NAMES.items() if fingerprint(NAMED[ours]) == fingerprint(design)), None)
