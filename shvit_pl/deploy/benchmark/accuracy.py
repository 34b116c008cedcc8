"""What is known of a network's accuracy: its run's, or what is published."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from shvit_pl.designs.config import resolve_design
from shvit_pl.designs.published import IMAGENET_SIZE, TIMM_TOP1, paper_row
from shvit_pl.files import read_rows
from shvit_pl.models.network_names import TIMM, repo_of
from shvit_pl.models.open_network import OpenedNetwork
from shvit_pl.runs.folder import BEST, SUMMARY, read_summary
from shvit_pl.runs.metrics import EMA

IMAGENET = "ImageNet-1k"
PEERS = Path(__file__).with_name("peers.csv")


@dataclass(frozen=True)
class Accuracy:
    """A top-1 accuracy.

    Attributes:
        top1: In percent.
        dataset: What it was measured on; only accuracies of one dataset are compared.
        source: Who says so.
    """

    top1: float
    dataset: str
    source: str


def known_accuracy(opened: OpenedNetwork, pixels: int) -> Accuracy | None:
    """The accuracy of a network at a side in pixels; `None` where it is not known for that side."""
    if opened.origin == "design":
        return _of_paper(opened.name, pixels)
    if opened.origin == "timm":
        return _peers().get((opened.name.removeprefix(TIMM).split(".")[0], pixels))
    if pixels != opened.image_size:
        return None
    if opened.origin == "checkpoint":
        return _of_run(opened)
    top1 = TIMM_TOP1.get(repo_of(opened.name).split("@")[0])
    return None if top1 is None else Accuracy(top1, IMAGENET, "timm's results of these weights")


def _of_paper(name: str, pixels: int) -> Accuracy | None:
    design = {"design": vars(resolve_design(name)), "teacher": None, "dataset": {"image_size": pixels}}
    row = paper_row(design)
    if row is None or row.image_size != pixels:
        return None
    return Accuracy(row.top1, IMAGENET, f"the paper, {row.source}")


def _of_run(opened: OpenedNetwork) -> Accuracy | None:
    checkpoint = opened.checkpoint
    assert checkpoint is not None
    folder = checkpoint.parent.parent
    if not (folder / SUMMARY).is_file():
        return None
    summary = read_summary(folder)
    metrics = summary["metrics" if checkpoint.name == BEST else "last_metrics"]
    top1 = metrics.get(f"val/acc1{EMA if opened.averaged else ''}")
    return None if top1 is None else Accuracy(round(100 * top1, 2), _dataset(summary), "the run's validation")


def _dataset(summary: Mapping[str, Any]) -> str:
    dataset = summary["dataset"]
    if (len(summary["classes"]), dataset["validation_images"]) == IMAGENET_SIZE:
        return IMAGENET
    parts = [dataset["path"], dataset["name"], (dataset["commit"] or "")[:7]]
    return " ".join([Path(parts[0]).name if Path(parts[0]).is_absolute() else parts[0], *filter(None, parts[1:])])


@cache
def _peers() -> dict[tuple[str, int], Accuracy]:
    """The paper's Table 2, where timm has the network, by timm's name and side."""
    return {
        (line["timm"], int(line["image_size"])): Accuracy(
            float(line["top1"]), IMAGENET, f"the paper, Table 2: {line['paper']}, {line['epochs']} epochs"
        )
        for line in read_rows(PEERS)
    }
