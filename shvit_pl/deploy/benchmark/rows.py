"""The rows of `benchmark.csv`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from shvit_pl.deploy.benchmark.accuracy import Accuracy
from shvit_pl.deploy.benchmark.measure import Measured

Row = dict[str, Any]
Key = tuple[str, ...]
_KEY = ("model", "runtime", "mode", "dtype", "batch_size", "image_size")


def make_rows(measured: Sequence[Measured], accuracies: Mapping[tuple[str, int], Accuracy]) -> list[Row]:
    """One row per cell, in the order of the table.

    Args:
        measured: What was measured.
        accuracies: By model and side in pixels, where known.
    """
    return [_row(each, accuracies.get((each.cell.model, each.cell.pixels))) for each in measured]


def _row(measured: Measured, accuracy: Accuracy | None) -> Row:
    cell, rate, built = measured.cell, measured.rate, measured.built
    low, high = rate.quartiles
    official = len(rate.rounds) == 1  # one mean, without a spread
    return {
        "model": cell.model,
        "runtime": cell.runtime,
        "mode": cell.mode,
        "dtype": cell.dtype,
        "batch_size": cell.batch,
        "image_size": cell.pixels,
        "image_size_asked": measured.group.image_size or "own",
        "params": built.cost.params,
        "macs": built.cost.macs,
        "ms": _significant(1000 * cell.batch / rate.median),
        "ms_q1": None if official else _significant(1000 * cell.batch / high),
        "ms_q3": None if official else _significant(1000 * cell.batch / low),
        "images_per_second": _significant(rate.median),
        "images_per_second_q1": None if official else _significant(low),
        "images_per_second_q3": None if official else _significant(high),
        "ratio": _significant(measured.ratio),
        "peak_memory_mb": None if built.memory is None else round(built.memory / 1e6, 2),
        "top1": accuracy.top1 if accuracy else None,
        "top1_dataset": accuracy.dataset if accuracy else None,
        "top1_source": accuracy.source if accuracy else None,
    }


def key(row: Mapping[str, Any]) -> Key:
    """What tells a row from the others of a benchmark, as text, as a CSV has it."""
    return tuple(str(row[name]) for name in _KEY)


def _significant(value: float) -> float:
    return float(f"{value:.6g}")
