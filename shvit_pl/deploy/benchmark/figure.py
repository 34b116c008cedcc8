"""Accuracy over throughput."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from shvit_pl.deploy.measuring import machine_words
from shvit_pl.display.plots import MARKERS, write_plainly

Row = Mapping[str, Any]
_MOST_COLOURS = 10
_LEAST_SPAN = 1.0  # points of top-1: less would magnify rounding


def draw_accuracy(rows: Sequence[Row], conditions: Mapping[str, Any]) -> dict[str, Figure]:
    """A picture for each dataset that accuracies are known of, by file name.

    Args:
        rows: As `make_rows` gives them.
        conditions: Under which they were measured.
    """
    known = [row for row in rows if row["top1"] is not None]
    datasets = list(dict.fromkeys(row["top1_dataset"] for row in known))
    figures = [_figure([row for row in known if row["top1_dataset"] == name], name, conditions) for name in datasets]
    numbers = [""] + [f"_{number}" for number in range(2, len(figures) + 1)]
    return {f"accuracy{number}.png": figure for number, figure in zip(numbers, figures, strict=False)}


def _figure(rows: Sequence[Row], dataset: str, conditions: Mapping[str, Any]) -> Figure:
    batches = list(dict.fromkeys(row["batch_size"] for row in rows))
    figure = Figure(figsize=(5.2 * len(batches), 4.4), layout="constrained")
    every = figure.subplots(1, len(batches), squeeze=False, sharey=True)[0]
    for axes, batch in zip(every, batches, strict=True):
        _panel(axes, [row for row in rows if row["batch_size"] == batch], f"batch {batch}")
    every[0].set_ylabel(f"top-1 in % on {dataset}")
    figure.suptitle(_title(conditions), fontsize=9)
    figure.supxlabel(f"accuracies: {_sources(rows)}", fontsize=7, color="0.35")
    return figure


def _panel(axes: Axes, rows: Sequence[Row], title: str) -> None:
    ways = list(dict.fromkeys(_way(row) for row in rows))
    for number, way in enumerate(ways):
        points = [row for row in rows if _way(row) == way]
        rates = [row["images_per_second"] for row in points]
        colour, marker = f"C{number % _MOST_COLOURS}", MARKERS[number % len(MARKERS)]
        axes.scatter(rates, [row["top1"] for row in points], color=colour, marker=marker, label=way)
    for name in dict.fromkeys((row["model"], row["image_size"], row["top1"]) for row in rows):
        _label(axes, rows, name)
    low, high = (pick(row["top1"] for row in rows) for pick in (min, max))
    if high - low < _LEAST_SPAN:
        axes.set_ylim(low - _LEAST_SPAN, high + _LEAST_SPAN)
    axes.set_xscale("log")
    write_plainly(axes.xaxis)
    axes.margins(x=0.22, y=0.12)
    axes.set_xlabel("images/s")
    axes.set_title(title, fontsize=9)
    axes.grid(alpha=0.25, which="both")
    axes.legend(fontsize=7)


def _label(axes: Axes, rows: Sequence[Row], point: tuple[str, int, float]) -> None:
    """The name of a network, once, above its fastest point."""
    model, pixels, top1 = point
    fastest = max(row["images_per_second"] for row in rows if (row["model"], row["image_size"]) == (model, pixels))
    text = f"{model.removeprefix('timm:')[-28:]} ({pixels})"
    axes.annotate(text, (fastest, top1), xytext=(0, 6), textcoords="offset points", fontsize=7, ha="center")


def _way(row: Row) -> str:
    return f"{row['mode'] or row['runtime']}, {row['dtype']}"


def _title(conditions: Mapping[str, Any]) -> str:
    what = "training" if conditions["task"] == "train" else "inference"
    return f"{what} on {machine_words(conditions)}"


def _sources(rows: Sequence[Row]) -> str:
    """Who says them, in a word: a paper's, timm's, a run's."""
    return "; ".join(dict.fromkeys(str(row["top1_source"]).split(",")[0] for row in rows))
