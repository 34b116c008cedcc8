"""What the paper printed of a design: `published.csv` (its tables and figures on ImageNet-1k), and weight decays."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from shvit_pl.designs.config import resolve_design
from shvit_pl.designs.design import Design
from shvit_pl.designs.fingerprint import Fingerprint, design_of, fingerprint
from shvit_pl.files import read_rows

FILE = Path(__file__).with_name("published.csv")

_DEVICES = "images/s: GPU A100, batch 256; CPU and ONNX Xeon Gold 5218R, batch 16, one thread"
_TRAINING = {
    "trained": "300 epochs",
    "tuned_384": "330 epochs in all",
    "tuned_512": "360 epochs in all",
    "distilled": "distilled as in DeiT; teacher and epochs are not printed",
    "macro": "details of its blocks and its epochs are not printed",
    "multi_head": "300 epochs; its heads and widths are not printed",
    "single_head": "300 epochs; its widths are not printed, S2's are taken here",
}

IMAGENET_SIZE = (1000, 50_000)  # classes, and images of its validation split

# section 3.1 and the official README
_WEIGHT_DECAY = {"s1": 0.025, "s2": 0.032, "s3": 0.035, "s4": 0.03}

# top-1 in % of the official weights in timm's repos, as timm's results-imagenet.csv has it
TIMM_TOP1 = {
    "timm/shvit_s1.in1k": 72.78,
    "timm/shvit_s2.in1k": 75.18,
    "timm/shvit_s3.in1k": 77.36,
    "timm/shvit_s4.in1k": 79.36,
}


@dataclass(frozen=True)
class PaperRow:
    """A row of the paper.

    Attributes:
        source: Where it stands: `Table 2: SHViT-S1`.
        image_size: Side of its images in pixels.
        top1: Top-1 accuracy in percent.
        params_m: Parameters in millions; `None` where it prints none, as below.
        gpu: Images per second on a GPU.
        cpu: Images per second on a CPU.
        onnx: Images per second on a CPU by ONNX Runtime.
        conditions: Data, training and devices.
    """

    source: str
    image_size: int
    top1: float
    params_m: float | None
    gpu: float | None
    cpu: float | None
    onnx: float | None
    conditions: str


def paper_row(summary: Mapping[str, Any]) -> PaperRow | None:
    """The paper's row of the network that a run trained, distilled or not as the run was; `None` where it has none.

    Args:
        summary: The run's `summary.json`. Of several rows the one of its image size is chosen, else the first.
    """
    return row_of(design_of(summary), summary["dataset"]["image_size"], bool(summary["teacher"]))


def row_of(design: Design, image_size: int, distilled: bool = False) -> PaperRow | None:
    """The paper's row of a design, that of this image size if it has several; `None` where it has none."""
    rows = _rows().get((fingerprint(design), distilled), {})
    return rows.get(image_size) or next(iter(rows.values()), None)


def row_at(design: Design, image_size: int) -> PaperRow | None:
    """The paper's row of a design at this image size; `None` where it has none."""
    row = row_of(design, image_size)
    return row if row is not None and row.image_size == image_size else None


@cache
def _rows() -> dict[tuple[Fingerprint, bool], dict[int, PaperRow]]:
    """The rows by image size, by network and whether it was distilled."""
    found: dict[tuple[Fingerprint, bool], dict[int, PaperRow]] = {}
    for line in read_rows(FILE):
        design = resolve_design(line["name"], **json.loads(line["changes"]))
        found.setdefault((fingerprint(design), line["distilled"] == "yes"), {})[int(line["image_size"])] = _row(line)
    return found


def _row(line: Mapping[str, str]) -> PaperRow:
    figures = {name: float(line[name]) if line[name] else None for name in ("params_m", "gpu", "cpu", "onnx")}
    training = _TRAINING[line["conditions"]]
    conditions = f"ImageNet-1k, {line['image_size']} pixels, {training}; {_DEVICES}"
    return PaperRow(line["source"], int(line["image_size"]), float(line["top1"]), conditions=conditions, **figures)


def paper_weight_decay(name: str) -> float:
    """The paper's weight decay of a named design; variants take their base's, and designs of ours S1's."""
    return _WEIGHT_DECAY.get(name.split("_")[0], _WEIGHT_DECAY["s1"])
