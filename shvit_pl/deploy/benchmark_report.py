"""The results of a benchmark: conditions, rows with known accuracies, table, picture, and a folder to compare with."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from shvit_pl import files, plots
from shvit_pl.deploy.benchmark import PEAK_OF, Cell, Group, Measured
from shvit_pl.deploy.detector_benchmark import BACKBONE, EXPLAINED, PARTS, REST, BenchmarkedDetector
from shvit_pl.deploy.measuring import machine_words, origin
from shvit_pl.deploy.options import BenchmarkOptions
from shvit_pl.designs import config, paper_results
from shvit_pl.display import counted, narrow_table, say, write_table
from shvit_pl.errors import UserError, first_few, one_line
from shvit_pl.models import SHViT, network_names, open_network
from shvit_pl.runs.folder import FinishedRun

Row = dict[str, Any]
Key = tuple[str, ...]
Rates = dict[Key, float]
TABLE = "benchmark.csv"
ENVIRONMENT = "environment.json"
_PICTURES = "accuracy*.png"
_KEY = ("model", "runtime", "mode", "dtype", "batch_size", "image_size")
_TEXTS = ("model", "mode", "dtype")  # columns of the printed table
_NUMBERS = ("batch", "px", "M params", "MMACs", "ms", "images/s", "IQR", "MB", "ratio")
_FOLDED = {  # is it a network of ours?
    True: "BatchNorm and residuals fused by fuse()",
    False: "reparameterized by timm; further BatchNorm is left to the mode",
}
_TASKS = {
    "train": "a step of training: official as engine.py, eager and compiled as timm's script, optimized as fit does it",
    "infer": "a forward pass without gradients",
}


def begin(options: BenchmarkOptions, conditions: Mapping[str, Any], groups: Iterable[Group]) -> Rates | None:
    """Check the folders and print the conditions before anything is measured; return the rates of `--compare`."""
    check_output(options.output, conditions)
    earlier = read_earlier(options.compare, conditions, groups)
    say(*_describe(conditions))
    return earlier


def check_output(output: str, ours: Mapping[str, Any]) -> None:
    """Raise `UserError` where there is no access, other files, or a benchmark under other conditions."""
    folder = files.output_folder(output, TABLE, ENVIRONMENT, _PICTURES, needed=[ENVIRONMENT])
    if (folder / ENVIRONMENT).exists():
        _read_rates(f"--output {str(folder)!r}", folder, ours)


def read_earlier(folder: str | None, ours: Mapping[str, Any], groups: Iterable[Group]) -> Rates | None:
    """Read the images per second of the benchmark in the folder of `--compare`; None without the flag.

    Raises `UserError` for a folder without a benchmark, for other conditions, and where it has none of these cells.
    """
    if folder is None:
        return None
    path = Path(folder).expanduser()
    rates = _read_rates(f"--compare {str(path)!r}", path, ours)
    keys = [_key(asdict(cell)) for group in groups for cell in group]
    if not rates.keys() & set(keys):
        there = ", ".join(next(iter(rates), ("none",)))
        raise UserError(
            f"--compare {str(path)!r}: it has none of these rows. The first one here is {', '.join(keys[0])}, there it "
            f"is {there} (model, runtime, mode, dtype, batch, pixels)."
        )
    return rates


def _read_rates(flag: str, folder: Path, ours: Mapping[str, Any]) -> Rates:
    """Read the images per second of a benchmark; raise `UserError` for a damaged one, and for other conditions."""
    try:
        theirs = dict(json.loads((folder / ENVIRONMENT).read_text())["conditions"])
        rates = {_key(row): float(row["images_per_second"]) for row in files.read_rows(folder / TABLE)}
    except (OSError, ValueError, LookupError, TypeError) as error:
        reason = f"{error.filename} is missing" if isinstance(error, FileNotFoundError) else one_line(error)[:120]
        raise UserError(f"{flag}: no complete benchmark is there ({reason}). Give another folder.") from error
    names = [name for name in {**ours, **theirs} if ours.get(name) != theirs.get(name)]
    if names:
        listed = first_few([f"{name} is {theirs.get(name)} there and {ours.get(name)} here" for name in names])
        raise UserError(f"{flag}: contains a benchmark under other conditions: {listed}. Give another folder.")
    return rates


def _key(row: Mapping[str, Any]) -> Key:
    """Return the columns that identify a row, as text as in a CSV."""
    return tuple(str(row[name]) for name in _KEY)


def _describe(conditions: Mapping[str, Any]) -> tuple[str, str]:
    """Return the conditions in two lines."""
    task, seconds = "training steps" if conditions["task"] == "train" else "inference", conditions["seconds"]
    how = f"median of {conditions['blocks']} interleaved blocks of {seconds:g} s after a warm-up"
    if conditions["protocol"] == "official":
        warm_up = conditions["warm_up"]
        how = f"as the official speed_test.py: fused, traced, one after the other; {warm_up:g} s of warm-up, mean of "
        how += f"{seconds:g} s" + ("" if (warm_up, seconds) == (10, 60) else " (the script's are 10 s and 60 s)")
    return f"{task} on {machine_words(conditions)}", how


def make_row(measured: Measured, opened: Any) -> Row:
    """Return the row of a cell, with known accuracy, or with times and costs of a detector's parts."""
    cell, rate, cost = measured.cell, measured.rate, measured.cost
    low, high = rate.quartiles if len(rate.rounds) > 1 else (None, None)  # the official protocol is one mean
    speeds = {"": rate.median, "_q1": low, "_q3": high}
    inverse = {"": rate.median, "_q1": high, "_q3": low}
    return {
        **asdict(cell),
        "params": cost.params,
        "macs": cost.macs,
        **{f"ms{suffix}": speed and _ms(cell, speed) for suffix, speed in inverse.items()},
        **{f"images_per_second{suffix}": speed and _significant(speed) for suffix, speed in speeds.items()},
        "ratio": _significant(measured.ratio),
        "peak_memory_mb": None if measured.memory is None else round(measured.memory / 1e6, 2),
        **(
            _of_detector(measured, opened)
            if isinstance(opened, BenchmarkedDetector)
            else known(opened, cell.image_size)
        ),
    }


def _of_detector(measured: Measured, opened: BenchmarkedDetector) -> Row:
    """Return the columns of a detector's parts, and its row in the paper."""
    rates = {part: measured.parts.get(part) for part in (BACKBONE, REST)}
    return {
        **{f"{part}_ms": rate and _ms(measured.cell, rate.median) for part, rate in rates.items()},
        **{f"{part}_{name}": value for part, each in measured.costs.items() for name, value in vars(each).items()},
        "paper": opened.paper,
    }


def _ms(cell: Cell, rate: float) -> float:
    return _significant(1000 * cell.batch_size / rate)


def _significant(value: float) -> float:
    return float(f"{value:.6g}")


def print_table(rows: Sequence[Row], conditions: Mapping[str, Any], earlier: Rates | None) -> None:
    """Print the rows, grouped by what is compared, with the ratios to an earlier benchmark's rates if there is one."""
    parts = [name for name in rows[0] if name.endswith("_ms")]
    headers = [name.replace("_", " ") for name in parts]
    table = narrow_table(_TEXTS, [*_NUMBERS, *headers, *["earlier"] * (earlier is not None)])
    for _, group in groupby(rows, lambda row: (row["batch_size"], row["image_size_asked"])):
        for row in group:
            last = [row[name] for name in parts] + ([] if earlier is None else [ratio(row, earlier)])
            table.add_row(*_table_cells(row), *map(_number, last))
        table.add_section()
    write_table(table)
    own = {row["image_size"] for row in rows if row["image_size_asked"] == "own"}
    note = "; image sizes differ, which is part of the ratio" if len(own) > 1 else ""
    say(f"ratio: images/s relative to the first row with the same batch and image size{note}")
    official = any(row["mode"] == "official" for row in rows) and conditions["protocol"] != "official"
    if official and conditions["device_type"] == "cpu" and conditions["threads"] != 1:
        say(f"official: {counted(conditions['threads'], 'thread')}, as in all rows; the official script uses 1")
    if parts:
        say(f"ms: the whole detector, from normalized images to what NMS leaves; {PARTS}")
        for line in dict.fromkeys(row["paper"] for row in rows if row["paper"]):
            say(f"the paper, {line}")
    if earlier is not None:
        say("earlier: images/s relative to the earlier benchmark, which ran in another process")


def ratio(row: Row, earlier: Rates) -> float | None:
    """Return images per second of a row over those of an earlier benchmark; `None` for a row that is new."""
    return row["images_per_second"] / earlier[_key(row)] if _key(row) in earlier else None


def _table_cells(row: Row) -> list[str]:
    low, high = row["images_per_second_q1"], row["images_per_second_q3"]
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
        "" if low is None else f"{_number(low)} to {_number(high)}",
        "" if row["peak_memory_mb"] is None else f"{row['peak_memory_mb']:.1f}",
        f"{row['ratio']:.2f}",
    ]


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _folded(opened: Any) -> str:
    return opened.folded if isinstance(opened, BenchmarkedDetector) else _FOLDED[isinstance(opened.model, SHViT)]


def environment(
    under: Mapping[str, Any],
    opened: Mapping[str, Any],
    measured: Sequence[Measured],
    skipped: Mapping[str, str],
    command: Sequence[str],
) -> dict[str, Any]:
    """Return the content of `environment.json`: conditions, networks by name, and what was skipped for which reason."""
    names, is_training = {item.cell.model for item in measured}, under["task"] == "train"
    models = {
        name: {
            "origin": network.origin,
            "own_image_size": network.image_size,
            "weights": network.weights,
            "folded": None if name not in names else "not fused" if is_training else _folded(network),
        }
        for name, network in opened.items()
    }
    explained = {
        "images_per_second": "the median of the blocks; _q1 and _q3 are their quartiles",
        "ms": "of a batch: the batch size over images_per_second",
        "clock": "wall clock around a block, the device idle before and after",
        "ratio": "to the first row with the same batch size and image_size asked for",
        "peak_memory": PEAK_OF.get(under["device_type"], "not known"),
        "params, macs": "of ours in closed form, BatchNorm not fused; of timm's models as reparameterized",
        "images": "random; in the row's dtype and channels-last, but for optimized in the layout that it takes, and "
        "for official in float32 and NCHW",
        "task": _TASKS[under["task"]],
    }
    if any(item.parts for item in measured):
        explained |= EXPLAINED
    return {"conditions": under, "explained": explained, "models": models, "skipped": skipped, **origin(command)}


# ---- known accuracies, and their picture over throughput

IMAGENET = "ImageNet-1k"
PEERS = Path(__file__).with_name("peers.csv")
_COLORS = 10  # colors in matplotlib's cycle


class Accuracy(NamedTuple):
    """A top-1 accuracy."""

    top1: float
    """Accuracy from 0 to 1."""
    dataset: str
    """The dataset it was measured on; only accuracies on one dataset are compared."""
    source: str
    """The publication or run that it is from."""


def known(opened: open_network.OpenedNetwork, pixels: int) -> dict[str, Any]:
    """Return the columns of a network's accuracy."""
    found = known_accuracy(opened, pixels) or (None, None, None)
    return dict(zip(("top1", "top1_dataset", "top1_source"), found, strict=True))


def known_accuracy(opened: open_network.OpenedNetwork, pixels: int) -> Accuracy | None:
    """Return the accuracy of a network at a side in pixels; `None` where it is not known for that side."""
    if opened.origin == "timm":
        return _peers().get((opened.name.removeprefix(network_names.TIMM).split(".")[0], pixels))
    if opened.origin == "design":
        row = paper_results.row_at(config.resolve_design(opened.name), pixels)
        return None if row is None else Accuracy(row.top1, IMAGENET, f"the paper, {row.source}")
    if pixels != opened.image_size:
        return None
    if opened.checkpoint is not None:
        return _run_accuracy(opened.checkpoint, opened.averaged)
    top1 = paper_results.TIMM_TOP1.get(network_names.repo_of(opened.name).split("@")[0])
    return None if top1 is None else Accuracy(top1, IMAGENET, "timm's results of these weights")


@cache
def _peers() -> dict[tuple[str, int], Accuracy]:
    """Return the accuracies of the paper's Table 2, by timm's name and side, where timm has the network."""
    return {
        (line["timm"], int(line["image_size"])): Accuracy(
            float(line["top1"]), IMAGENET, f"the paper, Table 2: {line['paper']}, {line['epochs']} epochs"
        )
        for line in files.read_rows(PEERS)
    }


def _run_accuracy(checkpoint: Path, averaged: bool) -> Accuracy | None:
    run = FinishedRun.of_checkpoint(checkpoint, averaged)
    if run is None or "acc1" not in run.metrics:
        return None
    dataset = run.dataset
    path, *details = dataset["path"], dataset["name"], (dataset["commit"] or "")[:7]
    name = " ".join([Path(path).name if Path(path).is_absolute() else path, *filter(None, details)])
    is_imagenet = (len(run.class_names), dataset["validation_images"]) == paper_results.IMAGENET_SIZE
    return Accuracy(round(run.metrics["acc1"], 4), IMAGENET if is_imagenet else name, "the run's validation")


def draw(rows: Sequence[Row], conditions: Mapping[str, Any]) -> dict[str, Figure]:
    """Return a picture for each dataset with known accuracies, by file name."""
    datasets = dict.fromkeys(row["top1_dataset"] for row in rows if row.get("top1") is not None)
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
    plots.widen(panels[0], "y", plots.LEAST_ACCURACY, 0, 1)  # all panels share it
    panels[0].set_ylabel(f"top-1 on {dataset}")
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
        color, marker = f"C{number % _COLORS}", plots.MARKERS[number % len(plots.MARKERS)]
        axes.scatter(rates, [row["top1"] for row in points], color=color, marker=marker, label=way)
    for (text, top1), rate in fastest.items():
        axes.annotate(text, (rate, top1), xytext=(0, 6), textcoords="offset points", fontsize=7, ha="center")
    axes.set_xscale("log")
    plots.write_plainly(axes.xaxis)
    axes.margins(x=0.22, y=0.12)
    plots.widen(axes, "x", plots.LEAST_FACTOR)
    axes.set_xlabel("images/s")
    axes.grid(alpha=0.25, which="both")
    axes.legend(fontsize=7)
