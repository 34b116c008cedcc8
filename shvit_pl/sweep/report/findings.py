"""All that a report shows, computed once: the table, effects, Pareto front, curves and conditions."""

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from shvit_pl.display import counted, enclose, join_distinct, joined
from shvit_pl.sweep.definition import Direction
from shvit_pl.sweep.engine.reading import Results
from shvit_pl.sweep.report.comparisons import Effect, compare
from shvit_pl.sweep.report.table import INFERENCE, TRAINING, Quantity, Row, Table, make_table, quantity

_MOST_CURVES = 12  # more lines can't be told apart
_ACCURACY = ", chosen on the same validation images that are reported, which biases all cells upward equally; ± is the "
_FOLDS = (
    " folds of the same training split, each validated with every seed; cells are compared fold by fold, and the "
    "variance of a mean over k folds is 1/k + 1/(k - 1) times that of a fold, as folds share training images (Nadeau "
    "and Bengio 2003)"
)
_FOLD = re.compile(r"fold \d+/(\d+)")
_RATE = "measured in each run, data loading included; the number of runs that shared the machine is unknown"
_SPEED = "; median of the rounds, with quartiles in the cell's details"


@dataclass(frozen=True)
class Plane:
    """Two quantities, and the cells that have both."""

    across: Quantity
    up: Quantity
    conditions: str
    """Conditions under which `across` was measured."""
    rows: list[Row]
    """Cells in the order of the sweep."""
    front: list[Row]
    """The Pareto front of the means, in order of `across`."""
    left_out: str
    """Number of cells that are not drawn, and the reason; empty where all are."""


@dataclass(frozen=True)
class Curve:
    """Mean, least and largest value over the seeds that reached an epoch."""

    row: Row
    epochs: list[float]
    mean: list[float]
    low: list[float]
    high: list[float]


@dataclass(frozen=True)
class Findings:
    """The numbers of a report."""

    table: Table
    effects: list[Effect]
    plane: Plane
    """Accuracy over throughput; for a search for several objectives, the first two that matter."""
    curves: list[Curve]
    """The primary quantity over epochs."""
    conditions: dict[str, str]
    """Conditions under which the numbers were measured, by title."""

    @property
    def results(self) -> Results:
        """The results that they come from."""
        return self.table.results

    @property
    def best_curves(self) -> list[Curve]:
        """At most as many curves as a figure can hold: those that reached the best values."""
        best, sign = (max, -1) if self.table.primary.direction == "max" else (min, 1)
        ranked = sorted(self.curves, key=lambda curve: sign * best(curve.mean))
        chosen = {curve.row.number for curve in ranked[:_MOST_CURVES]}
        return [curve for curve in self.curves if curve.row.number in chosen]


def findings_of(results: Results) -> Findings:
    """Work out a report's numbers."""
    table = make_table(results)
    curves = [_curve(row, table.primary) for row in table.rows]
    drawn = [curve for curve in curves if curve.epochs]
    return Findings(table, compare(table), _plane(table), drawn, _conditions(table))


def _plane(table: Table) -> Plane:
    results, up = table.results, table.primary
    others = [quantity(key, way) for key, way in results.objectives.items() if key != up.key]
    known = [row for row in table.rows if up.key in row.values]
    # compiled inference, or eager, if all cells that can be drawn have it; else training
    inference = (quantity(INFERENCE[mode]) for mode in ("compiled", "eager"))
    complete = (rate for rate in inference if known and all(rate.key in row.values for row in known))
    across = others[0] if results.kind == "search" and others else next(complete, quantity(TRAINING))
    conditions = _inference_setting(results) if across.is_inference else ""
    if across.key == TRAINING:
        conditions = _training_setting(_summaries(results))
    drawn = [row for row in known if across.key in row.values]
    means = [(row.values[across.key].mean, row.values[up.key].mean) for row in drawn]
    best = pareto_front(means, (across.direction, up.direction))
    front = [row for row, is_best in zip(drawn, best, strict=True) if is_best]
    cells = sum(bool(row.cell.done) for row in table.rows)
    front.sort(key=lambda row: row.values[across.key].mean)
    count = f"{len(drawn)} of {counted(cells, 'cell')} with a finished run"
    left_out = f"{count}; the others lack {up.name} or {across.name}" if len(drawn) < cells else ""
    return Plane(across, up, conditions, drawn, front, left_out)


def pareto_front(points: ArrayLike, directions: tuple[Direction, ...]) -> NDArray[np.bool_]:
    """Return which of the points `(N, K)` no other point beats in one of K directions without losing in another."""
    signs = np.array([1.0 if direction == "min" else -1.0 for direction in directions])
    costs = np.asarray(points, dtype=float).reshape(-1, len(directions)) * signs
    ours, theirs = costs[:, None], costs[None]  # (N, 1, K), (1, N, K)
    beaten = (theirs <= ours).all(axis=-1) & (theirs < ours).any(axis=-1)
    return ~beaten.any(axis=1)


def best_first(points: ArrayLike, directions: tuple[Direction, ...], most: int) -> list[int]:
    """Return the indices of at most so many points `(N, K)`: of the front, then of the front of the rest, and so on.

    Those of one front are in the order of the first direction; a point with an unknown number is left out.
    """
    values = np.asarray(points, dtype=float).reshape(-1, len(directions))
    ranked = np.argsort(values[:, 0] * (1 if directions[0] == "min" else -1), kind="stable")
    left, order = ranked[np.isfinite(values[ranked]).all(axis=1)], list[int]()
    while len(left) and len(order) < most:
        on_front = pareto_front(values[left], directions)
        order += left[on_front].tolist()
        left = left[~on_front]
    return order[:most]


def _curve(row: Row, of: Quantity) -> Curve:
    """Return the curve of the runs that are done, or of those that still run where none is."""
    values: dict[float, list[float]] = {}
    for run in row.cell.done or row.cell.runs:
        for epoch, value in run.curves.get(of.key, []):
            values.setdefault(epoch, []).append(value * of.scale)
    epochs = sorted(values)
    by_epoch = [values[epoch] for epoch in epochs]
    means = [sum(values) / len(values) for values in by_epoch]
    return Curve(row, epochs, means, [min(values) for values in by_epoch], [max(values) for values in by_epoch])


def _conditions(table: Table) -> dict[str, str]:
    """Describe what all runs share, how things were measured, and what to bear in mind."""
    runs, measured = _summaries(table.results), (table.results.speed or {}).get("conditions") or {}
    data = [run.get("dataset") or {} for run in runs]
    names = [_same(data, key) for key in ("path", "name", "revision")]
    images = [_same(data, f"{split}_images") for split in ("train", "validation")]
    versions = [run.get("versions") or {} for run in runs]
    libraries = dict.fromkeys(name for version in versions for name in version)
    inference = joined(
        _inference_setting(table.results), measured.get("layout") or "", counted(measured.get("rounds") or "", "round"),
        enclose("torch ", measured.get("torch") or ""),
        "BatchNorm fused" if measured.get("fused") else "not fused",
    )  # fmt: skip
    published = "; ".join(dict.fromkeys(row.paper.conditions for row in table.rows if row.paper))
    facts = {
        "dataset": joined(
            " ".join(filter(None, names)),
            enclose("", _same(data, "image_size"), " px"),
            f"{images[0]} training and {images[1]} validation images" if all(images) else "",
            _same([{"of": _FOLD.sub(r"each of \1 folds", run.get("validation") or "")} for run in data], "of"),
        ),
        "cross-validation": enclose("", str(table.results.folds or ""), _FOLDS),
        "training": joined(_training_length(runs), _training_setting(runs)),
        "same in all cells": joined(*(f"{flag} {value}" for flag, value in table.constants.items())),
        "accuracy": enclose("each run's best epoch by ", _same(runs, "monitor"), f"{_ACCURACY}{table.uncertainty}"),
        "training images/s": _RATE if any(run.get(TRAINING) for run in runs) else "",
        "peak memory": _same(runs, "peak_memory_of"),
        "inference speed": f"{inference}{_SPEED}" if measured else "",
        "the paper": enclose("as published, measured under its own conditions: ", published, "; not plotted"),
        "versions": joined(*(f"{name} {_same(versions, name)}" for name in libraries)),
    }
    return {name: text for name, text in facts.items() if text}


def _summaries(results: Results) -> list[dict[str, Any]]:
    """Return the summaries of all runs that are done."""
    return [run.summary for cell in results.cells for run in cell.done if run.summary]


def _same(records: list[dict[str, Any]], key: str) -> str:
    """Return the value of a key, or its different values."""
    return join_distinct(record.get(key) for record in records)


def _training_setting(runs: list[dict[str, Any]]) -> str:
    """Describe device, batch and precision of runs, from their summaries."""
    batch = enclose("batch ", _same(runs, "global_batch"))
    return joined(_same(runs, "device"), batch, _same(runs, "precision"))


def _training_length(runs: list[dict[str, Any]]) -> str:
    """Describe the length of the trainings, and the images seen, which limited batches may have cut."""
    trained = [run for run in runs if run.get("steps_trained") and run.get("global_batch")]
    seen = [run["steps_trained"] * run["global_batch"] for run in trained]
    available = [(run.get("dataset") or {}).get("train_images") or 0 for run in trained]
    less = any(count < images for count, images in zip(seen, available, strict=True))
    epochs = join_distinct(run.get("epochs_trained", run.get("epochs")) for run in runs)
    images = enclose("", join_distinct(seen), f" images seen{', less than the training set' if less else ''}")
    return joined(counted(epochs, "epoch"), counted(_same(trained, "steps_trained"), "step"), images)


def _inference_setting(results: Results) -> str:
    """Describe device, batch, type, image size and threads; empty before inference is measured."""
    measured = [(results.speed or {}).get("conditions") or {}]
    return joined(
        _same(measured, "device"),
        enclose("batch ", _same(measured, "batch")),
        _same(measured, "dtype"),
        enclose("", _same(measured, "image_size"), " px"),
        counted(_same(measured, "threads"), "thread"),
    )
