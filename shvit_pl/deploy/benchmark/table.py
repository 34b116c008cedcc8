"""The printed table of a benchmark, and its picture of accuracy over throughput."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from shvit_pl.deploy.measuring import machine_words
from shvit_pl.display.plots import MARKERS, write_plainly
from shvit_pl.display.terminal import narrow_table, table_console
from shvit_pl.display.words import counted

Row = Mapping[str, Any]
_TEXTS = ("model", "mode", "dtype")
_NUMBERS = ("batch", "px", "M params", "MMACs", "ms", "images/s", "IQR", "MB", "ratio")
_COLORS = 10  # of matplotlib's cycle
_MIN_SPAN = 1.0  # points of top-1: a shorter axis would magnify rounding


def describe(conditions: Mapping[str, Any]) -> str:
    """Return the conditions in two lines, which are printed before anything is measured."""
    what = "training steps" if conditions["task"] == "train" else "inference"
    return f"{what} on {machine_words(conditions)}\n{_how(conditions)}"


def _how(conditions: Mapping[str, Any]) -> str:
    seconds = conditions["seconds"]
    if conditions["protocol"] == "official":
        return (
            f"as the official speed_test.py: fused, traced, one after the other; {conditions['warm_up']:g} s of "
            f"warm-up, mean of {seconds:g} s" + _shortened(conditions)
        )
    return f"median of {conditions['blocks']} blocks of {seconds:g} s, taken in turns after a warm-up"


def _shortened(conditions: Mapping[str, Any]) -> str:
    is_whole = (conditions["warm_up"], conditions["seconds"]) == (10, 60)
    return "" if is_whole else " (the script's are 10 s and 60 s)"


def print_table(rows: Sequence[Row], conditions: Mapping[str, Any], earlier: Sequence[float | None] | None) -> None:
    """Print the rows, grouped by what is compared.

    Args:
        rows: As `make_rows` returns them.
        conditions: The conditions of the measurement.
        earlier: Ratios to an earlier benchmark, row by row.
    """
    table = narrow_table(_TEXTS, [*_NUMBERS, *["earlier"] * (earlier is not None)])
    ratios = list(earlier) if earlier is not None else [None] * len(rows)
    for _, group in groupby(zip(rows, ratios, strict=True), lambda pair: _group(pair[0])):
        for row, ratio in group:
            table.add_row(*_cells(row), *([_number(ratio)] if earlier is not None else []))
        table.add_section()
    table_console().print(table)
    print("\n".join(_notes(rows, conditions, earlier is not None)))


def _group(row: Row) -> tuple[Any, Any]:
    return row["batch_size"], row["image_size_asked"]


def _cells(row: Row) -> list[str]:
    spread = row["images_per_second_q1"]
    return [
        row["model"],
        row["mode"] or row["runtime"],
        row["dtype"],
        str(row["batch_size"]),
        str(row["image_size"]),
        f"{row['params'] / 1e6:.2f}",
        f"{row['macs'] / 1e6:.1f}",
        _number(row["ms"]),
        _number(row["images_per_second"]),
        "" if spread is None else f"{_number(spread)} to {_number(row['images_per_second_q3'])}",
        "" if row["peak_memory_mb"] is None else f"{row['peak_memory_mb']:.1f}",
        f"{row['ratio']:.2f}",
    ]


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _notes(rows: Sequence[Row], conditions: Mapping[str, Any], earlier: bool) -> list[str]:
    own = {row["image_size"] for row in rows if row["image_size_asked"] == "own"}
    notes = ["ratio: images/s over those of the first row of the same batch and image size"]
    if len(own) > 1:
        notes[0] += "; each network at its own image size, which is part of the difference"
    official = any(row["mode"] == "official" for row in rows) and conditions["protocol"] != "official"
    if official and conditions["device_type"] == "cpu" and conditions["threads"] != 1:
        notes.append(f"official: with {counted(conditions['threads'], 'thread')} as all rows; its own script has 1")
    if earlier:
        notes.append("earlier: images/s over those of the earlier benchmark, measured in another process")
    return notes


def draw_accuracy(rows: Sequence[Row], conditions: Mapping[str, Any]) -> dict[str, Figure]:
    """Return a picture for each dataset with known accuracies, by file name.

    Args:
        rows: As `make_rows` returns them.
        conditions: The conditions of the measurement.
    """
    known = [row for row in rows if row["top1"] is not None]
    datasets = list(dict.fromkeys(row["top1_dataset"] for row in known))
    figures = [
        _accuracy_figure([row for row in known if row["top1_dataset"] == name], name, conditions) for name in datasets
    ]
    numbers = [""] + [f"_{number}" for number in range(2, len(figures) + 1)]
    return {f"accuracy{number}.png": figure for number, figure in zip(numbers, figures, strict=False)}


def _accuracy_figure(rows: Sequence[Row], dataset: str, conditions: Mapping[str, Any]) -> Figure:
    batches = list(dict.fromkeys(row["batch_size"] for row in rows))
    figure = Figure(figsize=(5.2 * len(batches), 4.4), layout="constrained")
    panels = figure.subplots(1, len(batches), squeeze=False, sharey=True)[0]
    for axes, batch in zip(panels, batches, strict=True):
        _panel(axes, [row for row in rows if row["batch_size"] == batch], f"batch {batch}")
    panels[0].set_ylabel(f"top-1 in % on {dataset}")
    figure.suptitle(
        f"{'training' if conditions['task'] == 'train' else 'inference'} on {machine_words(conditions)}", fontsize=9
    )
    figure.supxlabel(f"accuracies: {_sources(rows)}", fontsize=7, color="0.35")
    return figure


def _panel(axes: Axes, rows: Sequence[Row], title: str) -> None:
    for number, way in enumerate(dict.fromkeys(map(_way, rows))):
        points = [row for row in rows if _way(row) == way]
        rates = [row["images_per_second"] for row in points]
        color, marker = f"C{number % _COLORS}", MARKERS[number % len(MARKERS)]
        axes.scatter(rates, [row["top1"] for row in points], color=color, marker=marker, label=way)
    for name in dict.fromkeys((row["model"], row["image_size"], row["top1"]) for row in rows):
        _label(axes, rows, name)
    low, high = (pick(row["top1"] for row in rows) for pick in (min, max))
    if high - low < _MIN_SPAN:
        axes.set_ylim(low - _MIN_SPAN, high + _MIN_SPAN)
    axes.set_xscale("log")
    write_plainly(axes.xaxis)
    axes.margins(x=0.22, y=0.12)
    axes.set_xlabel("images/s")
    axes.set_title(title, fontsize=9)
    axes.grid(alpha=0.25, which="both")
    axes.legend(fontsize=7)


def _label(axes: Axes, rows: Sequence[Row], point: tuple[str, int, float]) -> None:
    """Write the name of a network once, above its fastest point."""
    model, pixels, top1 = point
    fastest = max(row["images_per_second"] for row in rows if (row["model"], row["image_size"]) == (model, pixels))
    text = f"{model.removeprefix('timm:')[-28:]} ({pixels})"
    axes.annotate(text, (fastest, top1), xytext=(0, 6), textcoords="offset points", fontsize=7, ha="center")


def _way(row: Row) -> str:
    return f"{row['mode'] or row['runtime']}, {row['dtype']}"


def _sources(rows: Sequence[Row]) -> str:
    """Return the short names of the accuracies' sources."""
    return "; ".join(dict.fromkeys(str(row["top1_source"]).split(",")[0] for row in rows))
