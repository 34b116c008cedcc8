"""The paper's numbers of a design: its tables and figures on ImageNet-1k and on COCO (CSV files), and weight decays."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

from shvit_pl.designs.config import resolve_design
from shvit_pl.designs.design import Design, Fingerprint, design_of
from shvit_pl.designs.detector import DetectorConfig, detector_cost
from shvit_pl.files import read_rows

FILE = Path(__file__).with_name("paper_results.csv")
DETECTORS = Path(__file__).with_name("paper_detectors.csv")

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

_COCO = "COCO val2017, 12 epochs, 1333 x 800 pixels"
_COCO_CLASSES = 80
_SIDE = 512  # pixels, of the latency
_BACKBONES = "the backbone alone at 512 pixels (A100, batch 32; Xeon Gold 5218R, batch 16; iPhone 12)"
_BUILT = ("width", "convs", "norm", "scale", "anchor_ratios")  # what a detector is built by

IMAGENET_SIZE = (1000, 50_000)  # classes, and images of its validation split

# section 3.1 and the official README
_WEIGHT_DECAY = {"s1": 0.025, "s2": 0.032, "s3": 0.035, "s4": 0.03}

# top-1 of the official weights in timm's repos, as timm's results-imagenet.csv has it
TIMM_TOP1 = {
    "timm/shvit_s1.in1k": 0.7278,
    "timm/shvit_s2.in1k": 0.7518,
    "timm/shvit_s3.in1k": 0.7736,
    "timm/shvit_s4.in1k": 0.7936,
}


@dataclass(frozen=True)
class PaperRow:
    """A row of the paper; `None` where it prints no number."""

    source: str
    """Its place: `Table 2: SHViT-S1`."""
    image_size: int
    """Side of its images in pixels."""
    top1: float
    """Top-1 accuracy from 0 to 1."""
    params_m: float | None
    """Parameters in millions."""
    gpu: float | None
    """Images per second on a GPU."""
    cpu: float | None
    """Images per second on a CPU, by torch."""
    onnx: float | None
    """Images per second on a CPU, by ONNX Runtime."""
    conditions: str
    """Data, training and devices."""

    @property
    def words(self) -> str:
        """Its numbers in words."""
        rates = {"GPU": self.gpu, "CPU": self.cpu, "ONNX": self.onnx}
        params = f"{self.params_m} M parameters" if self.params_m is not None else ""
        speeds = [f"{name} {rate:.0f} images/s" for name, rate in rates.items() if rate is not None]
        return ", ".join(filter(None, (f"top-1 {self.top1:.3f}", params, *speeds)))


@dataclass(frozen=True)
class DetectorRow:
    """A row of Table 5, with fractions; `None` where it prints no number."""

    source: str
    """Its place: `Table 5: RetinaNet on SHViT-S4`."""
    gpu_ms: float
    """Milliseconds of an image, of the backbone alone, on a GPU."""
    onnx_ms: float
    """The same on a CPU, by ONNX Runtime."""
    mobile_ms: float
    """The same on an iPhone 12."""
    ap: float
    ap_50: float
    ap_75: float
    ap_small: float | None
    ap_medium: float | None
    ap_large: float | None
    mask_ap: float | None
    mask_ap_50: float | None
    mask_ap_75: float | None
    conditions: str
    """Data, training and devices, and the backbone's share of the detector."""

    @property
    def words(self) -> str:
        """Its numbers in words."""
        masks = f", of masks {self.mask_ap:.3f}" if self.mask_ap is not None else ""
        return f"AP {self.ap:.3f}{masks}; backbone alone GPU {self.gpu_ms} ms, ONNX {self.onnx_ms} ms an image"

    @property
    def line(self) -> str:
        """Its place, numbers and conditions."""
        return f"{self.source}: {self.words}; {self.conditions}"


def paper_row(summary: Mapping[str, Any]) -> PaperRow | DetectorRow | None:
    """Return the paper's row of the network that a run with this `summary.json` trained; `None` for none.

    Of several rows the one of its image size is chosen, else the first.
    """
    if summary.get("task", "classification") == "detection":
        return detector_row(design_of(summary["design"]), DetectorConfig(**summary["detector"]))
    return row_of(design_of(summary["design"]), summary["dataset"]["image_size"], bool(summary["teacher"]))


def row_of(design: Design, image_size: int, distilled: bool = False) -> PaperRow | None:
    """Return the paper's row of a design, that of this image size if it has several; `None` where it has none."""
    rows = _rows().get((design.fingerprint, distilled), {})
    return rows.get(image_size) or next(iter(rows.values()), None)


def row_at(design: Design, image_size: int) -> PaperRow | None:
    """Return the paper's row of a design at this image size; `None` where it has none."""
    row = row_of(design, image_size)
    return row if row is not None and row.image_size == image_size else None


def detector_row(design: Design, config: DetectorConfig) -> DetectorRow | None:
    """Return the row of Table 5 of a detector; `None` where it has none.

    What is set for training and for the choice of detections is left to the run.
    """
    paper = DetectorConfig(name=config.name)
    if any(getattr(config, name) != getattr(paper, name) for name in _BUILT):
        return None
    for line in read_rows(DETECTORS):
        if line["detector"] == config.name and design.fingerprint == resolve_design(line["name"]).fingerprint:
            names = [each.name for each in fields(DetectorRow) if each.name in line and each.name != "source"]
            figures = {name: float(line[name]) if line[name] else None for name in names}
            parts = detector_cost(design, config, _COCO_CLASSES, _SIDE)
            share = parts["backbone"].macs / sum(part.macs for part in parts.values())
            conditions = f"{_COCO}; ms: {_BACKBONES}, {share:.0%} of this detector's MACs"
            return DetectorRow(line["source"], **figures, conditions=conditions)  # type: ignore[arg-type]
    return None


@cache
def _rows() -> dict[tuple[Fingerprint, bool], dict[int, PaperRow]]:
    """Return the rows by image size, by network and distillation."""
    rows: dict[tuple[Fingerprint, bool], dict[int, PaperRow]] = {}
    for line in read_rows(FILE):
        side, design = int(line["image_size"]), resolve_design(line["name"], **json.loads(line["changes"]))
        figures = {name: float(line[name]) if line[name] else None for name in ("params_m", "gpu", "cpu", "onnx")}
        conditions = f"ImageNet-1k, {side} pixels, {_TRAINING[line['conditions']]}; {_DEVICES}"
        row = PaperRow(line["source"], side, float(line["top1"]), conditions=conditions, **figures)
        # S4 and the macro study's (b) have rows of several image sizes
        rows.setdefault((design.fingerprint, line["distilled"] == "yes"), {})[side] = row
    return rows


def paper_weight_decay(name: str) -> float:
    """Return the paper's weight decay of a named design; variants take their base's, and designs of ours S1's."""
    return _WEIGHT_DECAY.get(name.split("_")[0], _WEIGHT_DECAY["s1"])
