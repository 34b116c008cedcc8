"""How the numbers came about."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from shvit_pl.sweep.report.factors import constants, shown
from shvit_pl.sweep.report.rows import rows
from shvit_pl.sweep.results import Results

_MOST = 4  # different values that are listed


def conditions(results: Results) -> dict[str, str]:
    """What all runs share, what was measured how, and what to bear in mind; by title."""
    summaries = [run.summary for cell in results.cells for run in cell.done if run.summary]
    facts = {
        "dataset": _dataset(summaries),
        "training": _training(summaries),
        "the same in all cells": ", ".join(f"{flag} {value}" for flag, value in constants(results).items()),
        "accuracy": _accuracy(summaries),
        "peak memory": _values(one.get("peak_memory_of") for one in summaries),
        "inference speed": _speed(results),
        "the paper": _paper(results),
        "versions": _versions(summaries),
    }
    return {name: text for name, text in facts.items() if text}


def _dataset(summaries: list[dict[str, Any]]) -> str:
    data = [one.get("dataset") or {} for one in summaries]
    images = [_values(one.get(key) for one in data) for key in ("train_images", "validation_images")]
    parts = [
        " ".join(filter(None, (_values(one.get(key) for one in data) for key in ("path", "name", "revision")))),
        _with("", _values(one.get("image_size") for one in data), " px"),
        f"{images[0]} training and {images[1]} validation images" if all(images) else "",
        _values(one.get("validation") for one in data),
    ]
    return ", ".join(filter(None, parts))


def _training(summaries: list[dict[str, Any]]) -> str:
    keys = ("epochs", "global_batch", "precision", "device")
    known = {key: _values(one.get(key) for one in summaries) for key in keys}
    parts = [
        _with("", known["epochs"], " epochs"),
        _with("batch ", known["global_batch"]),
        known["precision"],
        _with("on ", known["device"]),
    ]
    return ", ".join(filter(None, parts))


def _accuracy(summaries: list[dict[str, Any]]) -> str:
    monitor = _values(one.get("monitor") for one in summaries)
    return _with(
        "each run's best epoch by ", monitor,
        ", chosen on the same validation images that it is stated for, which flatters all cells alike; "
        "± is the standard deviation over seeds",
    )  # fmt: skip


def _speed(results: Results) -> str:
    measured = (results.speed or {}).get("conditions") or {}
    if not measured:
        return ""
    parts = [
        measured.get("device"),
        *(_with(text, _values([measured.get(key)]), after) for key, text, after in _SPEED),
        "BatchNorm fused" if measured.get("fused") else "not fused",
    ]
    return ", ".join(filter(None, parts)) + "; median, with the quartiles of the rounds in a cell's panel"


_SPEED = (
    ("batch", "batch ", ""),
    ("dtype", "", ""),
    ("image_size", "", " px"),
    ("threads", "", " threads"),
    ("layout", "", ""),
    ("rounds", "", " rounds"),
    ("torch", "torch ", ""),
)


def _paper(results: Results) -> str:
    published = dict.fromkeys(row.paper.conditions for row in rows(results) if row.paper)
    return _with("as published, under conditions of its own: ", "; ".join(published), "; never drawn beside ours")


def _versions(summaries: list[dict[str, Any]]) -> str:
    names = dict.fromkeys(name for one in summaries for name in one.get("versions") or {})
    known = {name: _values((one.get("versions") or {}).get(name) for one in summaries) for name in names}
    return ", ".join(f"{name} {version}" for name, version in known.items())


def _values(values: Iterable[Any]) -> str:
    """All different values, or how many there are."""
    different = list(dict.fromkeys(shown(value) for value in values if value is not None))
    return " or ".join(different) if len(different) <= _MOST else f"{len(different)} different ones"


def _with(before: str, text: str, after: str = "") -> str:
    return f"{before}{text}{after}" if text else ""
