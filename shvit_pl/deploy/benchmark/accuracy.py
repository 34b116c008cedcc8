"""Known accuracies of benchmarked networks, and their picture over throughput."""

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from shvit_pl.deploy.measuring import machine_words
from shvit_pl.designs.config import resolve_design
from shvit_pl.designs.published import IMAGENET_SIZE, TIMM_TOP1, paper_row
from shvit_pl.display.plots import MARKERS, write_plainly
from shvit_pl.files import read_rows
from shvit_pl.models.network_names import TIMM, repo_of
from shvit_pl.models.open_network import OpenedNetwork
from shvit_pl.runs.finished_run import FinishedRun

Row = Mapping[str, Any]
IMAGENET = "ImageNet-1k"
PEERS = Path(__file__).with_name("peers.csv")
_COLORS = 10  # of matplotlib's cycle
_MIN_SPAN = 1.0  # points of top-1: a shorter axis would magnify rounding


class Accuracy(NamedTuple):
    """A top-1 accuracy."""

    top1: float
    """Accuracy in percent."""
    dataset: str
    """The dataset it was measured on; only accuracies on one dataset are compared."""
    source: str
    """The publication or run that it is from."""


def columns(opened: OpenedNetwork, pixels: int) -> dict[str, Any]:
    """Return the columns of a row about the accuracy of a network at a side in pixels."""
    known = known_accuracy(opened, pixels)
    return dict(zip(("top1", "top1_dataset", "top1_source"), known or (None, None, None), strict=True))


def known_accuracy(opened: OpenedNetwork, pixels: int) -> Accuracy | None:
    """Return the accuracy of a network at a side in pixels; `None` where it is not known for that side."""
    if opened.origin == "timm":
        return _peers().get((opened.name.removeprefix(TIMM).split(".")[0], pixels))
    if opened.origin == "design":
        design = {"design": vars(resolve_design(opened.name)), "teacher": None, "dataset": {"image_size": pixels}}
        row = paper_row(design)
        if row is None or row.image_size != pixels:
            return None
        return Accuracy(row.top1, IMAGENET, f"the paper, {row.source}")
    if pixels != opened.image_size:
        return None
    if opened.checkpoint is not None:
        return _run_accuracy(opened.checkpoint, opened.averaged)
    top1 = TIMM_TOP1.get(repo_of(opened.name).split("@")[0])
    return None if top1 is None else Accuracy(top1, IMAGENET, "timm's results of these weights")


@cache
def _peers() -> dict[tuple[str, int], Accuracy]:
    """Return the accuracies of the paper's Table 2, by timm's name and side, where timm has the network."""
    return {
        (line["timm"], int(line["image_size"])): Accuracy(
            float(line["top1"]), IMAGENET, f"the paper, Table 2: {line['paper']}, {line['epochs']} epochs"
        )
        for line in read_rows(PEERS)
    }


def _run_accuracy(checkpoint: Path, averaged: bool) -> Accuracy | None:
    run = FinishedRun.of_checkpoint(checkpoint, averaged)
    if run is None or "acc1" not in run.metrics:
        return None
    dataset = run.dataset
    path, *details = dataset["path"], dataset["name"], (dataset["commit"] or "")[:7]
    name = " ".join([Path(path).name if Path(path).is_absolute() else path, *filter(None, details)])
    is_imagenet = (len(run.class_names), dataset["validation_images"]) == IMAGENET_SIZE
    return Accuracy(round(100 * run.metrics["acc1"], 2), IMAGENET if is_imagenet else name, "the run's validation")


def draw(rows: Sequence[Row], conditions: Mapping[str, Any]) -> dict[str, Figure]:
    """Return a picture for each dataset with known accuracies, by file name, of rows with the columns of `columns`."""
    datasets = dict.fromkeys(row["top1_dataset"] for row in rows if row["top1"] is not None)
    figures = {}
    for number, name in enumerate(datasets, start=1):
        known = [row for row in rows if row["top1_dataset"] == name]
        figures[f"accuracy_{number}.png" if number > 1 else "accuracy.png"] = _figure(known, name, conditions)
    return figures


def _figure(rows: Sequence[Row], dataset: str, conditions: Mapping[str, Any]) -> Figure:
    batches = list(dict.fromkeys(row["batch_size"] for row in rows))
    figure = Figure(figsize=(5.2 * len(batches), 4.4), layout="constrained")
    panels = figure.subplots(1, len(batches), squeeze=False, sharey=True)[0]
    for axes, batch in zip(panels, batches, strict=True):
        _draw_panel(axes, [row for row in rows if row["batch_size"] == batch])
        axes.set_title(f"batch {batch}", fontsize=9)
    panels[0].set_ylabel(f"top-1 in % on {dataset}")
    task = "training" if conditions["task"] == "train" else "inference"
    figure.suptitle(f"{task} on {machine_words(conditions)}", fontsize=9)
    sources = dict.fromkeys(str(row["top1_source"]).split(",")[0] for row in rows)
    figure.supxlabel(f"accuracies: {'; '.join(sources)}", fontsize=7, color="0.35")
    return figure


def _draw_panel(axes: Axes, rows: Sequence[Row]) -> None:
    """Draw a marker for each way to run a network, and each network's name once, above its fastest point."""
    ways: dict[str, list[Row]] = {}
    fastest: dict[tuple[str, float], float] = {}
    for row in rows:
        ways.setdefault(f"{row['mode'] or row['runtime']}, {row['dtype']}", []).append(row)
        point = f"{row['model'].removeprefix('timm:')[-28:]} ({row['image_size']})", row["top1"]
        fastest[point] = max(fastest.get(point, 0.0), row["images_per_second"])
    for number, (way, points) in enumerate(ways.items()):
        rates = [row["images_per_second"] for row in points]
        color, marker = f"C{number % _COLORS}", MARKERS[number % len(MARKERS)]
        axes.scatter(rates, [row["top1"] for row in points], color=color, marker=marker, label=way)
    for (text, top1), rate in fastest.items():
        axes.annotate(text, (rate, top1), xytext=(0, 6), textcoords="offset points", fontsize=7, ha="center")
    low, high = (pick(row["top1"] for row in rows) for pick in (min, max))
    if high - low < _MIN_SPAN:
        axes.set_ylim(low - _MIN_SPAN, high + _MIN_SPAN)
    axes.set_xscale("log")
    write_plainly(axes.xaxis)
    axes.margins(x=0.22, y=0.12)
    axes.set_xlabel("images/s")
    axes.grid(alpha=0.25, which="both")
    axes.legend(fontsize=7)
