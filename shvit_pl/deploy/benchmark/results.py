"""The results of a benchmark: conditions, rows, the printed table, and the folder, which may be compared later."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from shvit_pl.deploy.benchmark.cells import Group
from shvit_pl.deploy.benchmark.measure import PEAK_OF, Measured
from shvit_pl.deploy.measuring import holds_results, machine, machine_words, origin, write_results
from shvit_pl.deploy.options import BenchmarkOptions
from shvit_pl.display.terminal import narrow_table, table_console
from shvit_pl.display.words import counted
from shvit_pl.errors import UserError, one_line
from shvit_pl.files import read_rows
from shvit_pl.models.open_network import OpenedNetwork

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Row = dict[str, Any]
Key = tuple[str, ...]
Rates = dict[Key, float]
_TABLE = "benchmark.csv"
_ENVIRONMENT = "environment.json"
_PICTURES = "accuracy*.png"
_KEY = ("model", "runtime", "mode", "dtype", "batch_size", "image_size")
_TEXTS = ("model", "mode", "dtype")  # columns of the printed table
_NUMBERS = ("batch", "px", "M params", "MMACs", "ms", "images/s", "IQR", "MB", "ratio")
_MAX_DIFFERENCES = 3  # listed in a message
_TASKS = {
    "train": "a step of training: official as engine.py, eager and compiled as timm's script, optimized as fit does it",
    "infer": "a forward pass without gradients",
}


def conditions(options: BenchmarkOptions, device: torch.device) -> dict[str, Any]:
    """Return everything but the row that a number depends on; only equal conditions may be compared.

    Args:
        options: The flags.
        device: The device that computes, its threads set.
    """
    return {
        "task": "train" if options.train else "infer",
        "protocol": options.protocol,
        "blocks": None if options.protocol == "official" else options.rounds,
        "seconds": options.block_seconds,
        "warm_up": options.warm_up_seconds or "until it gets no faster",
        **machine(device),
    }


def check_output(folder: Path, ours: Mapping[str, Any]) -> None:
    """Check that a benchmark under these conditions can be written into a folder.

    Raises:
        UserError: where there is no access, and where there are other files or a benchmark under other conditions.
    """

    def is_benchmark(there: Path) -> bool:
        names = {path.name for path in there.iterdir()}
        return _ENVIRONMENT in names <= {_TABLE, _ENVIRONMENT, *(path.name for path in there.glob(_PICTURES))}

    if not holds_results(folder, is_benchmark):
        return
    flag = f"--output {str(folder)!r}"
    try:
        differences = _differences(ours, _read_conditions(folder))
    except (ValueError, LookupError, TypeError) as error:
        raise UserError(f"{flag}: its {_ENVIRONMENT} is damaged; give a new folder.") from error
    if differences:
        raise UserError(f"{flag}: it holds a benchmark under other conditions: {differences}. Give a new folder.")


def _read_conditions(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / _ENVIRONMENT).read_text())["conditions"])


def _differences(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> str:
    """Return how two benchmarks' conditions differ, in a few words; empty where they don't."""
    names = [name for name in {**ours, **theirs} if ours.get(name) != theirs.get(name)]
    listed = [f"{name} is {theirs.get(name)} there and {ours.get(name)} here" for name in names[:_MAX_DIFFERENCES]]
    return "; ".join([*listed, *[f"and {len(names) - _MAX_DIFFERENCES} more"] * (len(names) > _MAX_DIFFERENCES)])


def read_earlier(folder: str | None, ours: Mapping[str, Any], groups: Iterable[Group]) -> Rates | None:
    """Read the images per second of the benchmark in the folder of `--compare`; None without the flag.

    Args:
        folder: The value of `--compare`.
        ours: The conditions of this benchmark.
        groups: The cells of this benchmark.

    Raises:
        UserError: for a folder without a benchmark, for other conditions, and where it has none of these cells.
    """
    if folder is None:
        return None
    path = Path(folder).expanduser()
    flag = f"--compare {str(path)!r}"
    try:
        theirs = _read_conditions(path)
        rates = {_key(row): float(row["images_per_second"]) for row in read_rows(path / _TABLE)}
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise UserError(f"{flag}: no whole benchmark is there ({one_line(error)[:120]}). Give its folder.") from error
    if differences := _differences(ours, theirs):
        raise UserError(f"{flag}: measured under other conditions, so nothing may be compared: {differences}.")
    cells = [cell for group in groups for cell in group.cells]
    keys = [(cell.model, cell.runtime, cell.mode, cell.dtype, str(cell.batch), str(cell.pixels)) for cell in cells]
    if not rates.keys() & set(keys):
        there = ", ".join(next(iter(rates), ("none",)))
        raise UserError(
            f"{flag}: it has none of these rows. Here the first is {', '.join(keys[0])}, there it is {there} (model, "
            "runtime, mode, dtype, batch, pixels)."
        )
    return rates


def _key(row: Mapping[str, Any]) -> Key:
    """Return the columns that identify a row, as text as in a CSV."""
    return tuple(str(row[name]) for name in _KEY)


def describe(conditions: Mapping[str, Any]) -> str:
    """Return the conditions in two lines, which are printed before anything is measured."""
    task, seconds = "training steps" if conditions["task"] == "train" else "inference", conditions["seconds"]
    how = f"median of {conditions['blocks']} blocks of {seconds:g} s, taken in turns after a warm-up"
    if conditions["protocol"] == "official":
        warm_up = conditions["warm_up"]
        how = f"as the official speed_test.py: fused, traced, one after the other; {warm_up:g} s of warm-up, mean of "
        how += f"{seconds:g} s" + ("" if (warm_up, seconds) == (10, 60) else " (the script's are 10 s and 60 s)")
    return f"{task} on {machine_words(conditions)}\n{how}"


def make_rows(measured: Sequence[Measured]) -> list[Row]:
    """Return a row per cell, in the order of the table."""
    return [_row(item) for item in measured]


def _row(measured: Measured) -> Row:
    cell, rate, cost = measured.cell, measured.rate, measured.network.cost
    low, high = rate.quartiles if len(rate.rounds) > 1 else (None, None)  # the official protocol is one mean
    speeds = {"": rate.median, "_q1": low, "_q3": high}
    inverse = {"": rate.median, "_q1": high, "_q3": low}
    return {
        "model": cell.model,
        "runtime": cell.runtime,
        "mode": cell.mode,
        "dtype": cell.dtype,
        "batch_size": cell.batch,
        "image_size": cell.pixels,
        "image_size_asked": measured.group.image_size or "own",
        "params": cost.params,
        "macs": cost.macs,
        **{f"ms{suffix}": speed and _significant(1000 * cell.batch / speed) for suffix, speed in inverse.items()},
        **{f"images_per_second{suffix}": speed and _significant(speed) for suffix, speed in speeds.items()},
        "ratio": _significant(measured.ratio),
        "peak_memory_mb": None if measured.memory is None else round(measured.memory / 1e6, 2),
    }


def _significant(value: float) -> float:
    return float(f"{value:.6g}")


def print_table(rows: Sequence[Row], conditions: Mapping[str, Any], earlier: Rates | None) -> None:
    """Print the rows, grouped by what is compared.

    Args:
        rows: As `make_rows` returns them.
        conditions: The conditions of the measurement.
        earlier: Images per second of an earlier benchmark, whose ratios are a column; empty for a row that is new.
    """
    table = narrow_table(_TEXTS, [*_NUMBERS, *["earlier"] * (earlier is not None)])
    for _, group in groupby(rows, lambda row: (row["batch_size"], row["image_size_asked"])):
        for row in group:
            table.add_row(*_table_cells(row), *([] if earlier is None else [_number(ratio(row, earlier))]))
        table.add_section()
    table_console().print(table)
    own = {row["image_size"] for row in rows if row["image_size_asked"] == "own"}
    is_part = "; each network at its own image size, which is part of the difference" if len(own) > 1 else ""
    print(f"ratio: images/s over those of the first row of the same batch and image size{is_part}")
    official = any(row["mode"] == "official" for row in rows) and conditions["protocol"] != "official"
    if official and conditions["device_type"] == "cpu" and conditions["threads"] != 1:
        print(f"official: with {counted(conditions['threads'], 'thread')} as all rows; its own script has 1")
    if earlier is not None:
        print("earlier: images/s over those of the earlier benchmark, measured in another process")


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


def environment(
    under: Mapping[str, Any],
    opened: Mapping[str, OpenedNetwork],
    measured: Sequence[Measured],
    skipped: Mapping[str, str],
    command: Sequence[str],
) -> dict[str, Any]:
    """Return the content of `environment.json`.

    Args:
        under: The conditions.
        opened: The networks by name.
        measured: The measured cells.
        skipped: Reasons why others could not be measured, by cell or network.
        command: The command line.
    """
    is_training = under["task"] == "train"
    folded = {item.cell.model: "not fused" if is_training else item.network.folded for item in measured}
    models = {
        name: {
            "origin": network.origin,
            "own_image_size": network.image_size,
            "weights": network.weights,
            "folded": folded.get(name),
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
    return {"conditions": under, "explained": explained, "models": models, "skipped": skipped, **origin(command)}


def write(folder: Path, rows: Sequence[Row], facts: Mapping[str, Any], figures: Mapping[str, Figure]) -> None:
    """Write the folder of a benchmark; an earlier one in it is replaced.

    Args:
        folder: The folder.
        rows: At least one.
        facts: As `environment` returns them.
        figures: Pictures by file name.
    """
    write_results(folder, (_TABLE, rows), (_ENVIRONMENT, facts), figures)
