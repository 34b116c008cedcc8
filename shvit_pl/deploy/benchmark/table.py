"""The table of a benchmark, as it is printed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from shvit_pl.deploy.measuring import machine_words
from shvit_pl.display.terminal import narrow_table, table_console
from shvit_pl.display.words import counted

_TEXTS = ("model", "mode", "dtype")
_NUMBERS = ("batch", "px", "M params", "MMACs", "ms", "images/s", "middle half", "MB", "ratio")


def describe(conditions: Mapping[str, Any]) -> str:
    """The conditions in a line or two, before anything is measured."""
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


def print_table(
    rows: Sequence[Mapping[str, Any]], conditions: Mapping[str, Any], earlier: Sequence[float | None] | None
) -> None:
    """Print the rows, those that are compared together.

    Args:
        rows: As `make_rows` gives them.
        conditions: Under which they were measured.
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


def _group(row: Mapping[str, Any]) -> tuple[Any, Any]:
    return row["batch_size"], row["image_size_asked"]


def _cells(row: Mapping[str, Any]) -> list[str]:
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
    """Three digits or more."""
    if value is None:
        return ""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _notes(rows: Sequence[Mapping[str, Any]], conditions: Mapping[str, Any], earlier: bool) -> list[str]:
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
