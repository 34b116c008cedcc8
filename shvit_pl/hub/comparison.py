"""A run's design beside the one of the paper that it is, or was changed from."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from shvit_pl.designs.cost import cost
from shvit_pl.designs.design import Design
from shvit_pl.designs.fingerprint import design_of, fingerprint
from shvit_pl.designs.named import NAMED
from shvit_pl.designs.published import paper_row

_IMAGENET = 1000  # classes of the paper's models
_MIXERS = {"conv": "convolution", "single_head": "single head", "multi_head": "multi-head"}


@dataclass(frozen=True)
class Comparison:
    """Two designs side by side.

    Attributes:
        ours: Title of the run's column: the design's name, changed or not.
        theirs: Title of the paper's column; empty where the paper has no such model.
        rows: By name, the run's value and the paper's.
        same: Whether it is the same network.
        conditions: Of the paper's accuracy.
    """

    ours: str
    theirs: str
    rows: dict[str, tuple[str, str]]
    same: bool
    conditions: str


def compare(summary: dict[str, Any], acc1: float | None) -> Comparison:
    """Put a run's design beside the paper's.

    Args:
        summary: The run's `summary.json`.
        acc1: Top-1 accuracy of its pushed weights, as a fraction.
    """
    name, design = summary["design"]["name"], design_of(summary)
    base = NAMED[name]
    same = fingerprint(base) == fingerprint(design)
    row = paper_row({**summary, "design": {"name": name, **asdict(base)}})
    ours = _facts(design, len(summary["classes"]), summary["dataset"]["image_size"])
    theirs = _facts(base, _IMAGENET, base.image_size) if row else dict.fromkeys(ours, "")
    rows = {key: (ours[key], theirs[key]) for key in ours}
    if acc1 is not None:
        published = f"{row.top1:.1f}% on ImageNet-1k" if row else ""
        rows["top-1"] = (f"{acc1:.1%} on {summary['dataset']['path']}", published)
    title = row.source.split(": ")[-1].split(",")[0] if row else ""
    return Comparison(name if same else f"{name}, changed", title, rows, same, row.conditions if row else "")


def _facts(design: Design, classes: int, side: int) -> dict[str, str]:
    total = cost(design, classes, side)
    return {
        "patch size": str(design.patch_size),
        "widths": " - ".join(map(str, design.embed_dim)),
        "blocks": " - ".join(map(str, design.depth)),
        "token mixers": " - ".join(_MIXERS.get(mixer, mixer) for mixer in design.mixers),
        "parameters": f"{total.params / 1e6:.2f} M ({classes} classes)",
        "multiply-accumulates": f"{total.macs / 1e6:.1f} M at {side} pixels",
    }
