"""The table that a report is made from: the quantities that cells are compared in, and one row per cell."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import floor, inf, isfinite, log10
from statistics import mean
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from shvit_pl.designs.paper_results import DetectorRow, PaperRow, paper_row
from shvit_pl.display import shown
from shvit_pl.runs.folder import AT_END, EMA, loss_beside
from shvit_pl.sweep.definition import Direction, short_names, value_of
from shvit_pl.sweep.engine.reading import Cell, Results, Run

ACCURACY = "val/acc1"
TRAINING = "images_per_second"
INFERENCE = {"eager": "inference_eager", "compiled": "inference_compiled"}  # keys of `Results.speed`, and ours
_TIME = "wall_seconds"
_DEFAULT = "default"  # the level of a cell that does not set a flag which others do
_PAPER = {
    "source": "paper", "top1": "paper: top-1", "params_m": "paper: parameters (M)",
    "gpu": "paper: GPU images/s", "cpu": "paper: CPU images/s", "onnx": "paper: ONNX images/s",
    "ap": "paper: AP", "mask_ap": "paper: mask AP", "gpu_ms": "paper: backbone's GPU ms",
    "onnx_ms": "paper: backbone's ONNX ms",
}  # fmt: skip


@dataclass(frozen=True)
class Quantity:
    """A number that a run or a cell has."""

    key: str
    """Key in a summary, or one of `INFERENCE`."""
    name: str
    unit: str = ""
    """Unit of the values as shown."""
    scale: float = 1.0
    """Factor from a value to the one that is shown."""
    is_share: bool = False
    """A fraction from 0 to 1, whose differences are shown in points, which are 0.01."""
    decimals: int | None = None
    """Decimals shown; `None` for three significant digits."""
    direction: Direction = "max"
    is_cost: bool = False
    """Compared by a ratio; all other quantities by a difference."""
    is_measured: bool = True
    """Subject to noise, unlike parameters and MACs."""

    @property
    def is_inference(self) -> bool:
        """Measured once for a cell, not in every run."""
        return self.key in INFERENCE.values()

    @property
    def header(self) -> str:
        """Name and unit."""
        return f"{self.name} ({self.unit})" if self.unit else self.name

    @property
    def step(self) -> str:
        """Unit of a difference as shown."""
        return "points" if self.is_share else self.unit

    @property
    def step_scale(self) -> float:
        """Factor from a difference to the one that is shown."""
        return 100.0 if self.is_share else self.scale

    def show(self, value: float) -> str:
        """Format a value, without its unit and never with an exponent."""
        scaled, decimals = value * self.scale, self.decimals
        if decimals is None:
            decimals = max(0, 2 - floor(log10(abs(scaled)))) if scaled else 0
        return f"{scaled:.{decimals}f}"


_ACCURACIES = [
    Quantity(f"val/{key}{suffix}", f"{words}{name}", decimals=4, is_share=True)
    for suffix, words in (("", ""), (EMA, "EMA "))
    for key, name in (("acc1", "top-1"), ("acc5", "top-5"), ("corrupted_acc1", "corrupted top-1"))
]
_PRECISIONS = [
    Quantity(f"val/{kind}{key}{suffix}", f"{words}{of}{name}", decimals=4, is_share=True)
    for suffix, words in (("", ""), (EMA, "EMA "))
    for kind, of in (("", ""), ("mask_", "mask "))
    for key, name in (("map", "AP"), ("map_50", "AP50"))
]
_COSTS = [
    Quantity("params", "parameters", "M", scale=1e-6, direction="min", is_cost=True, is_measured=False),
    Quantity("macs", "MACs", "M", scale=1e-6, direction="min", is_cost=True, is_measured=False),
    Quantity(TRAINING, "training images/s", is_cost=True),
    Quantity("peak_memory_mb", "peak memory", "MB", direction="min", is_cost=True),
    Quantity(_TIME, "training time", "s", direction="min", is_cost=True),
    *(Quantity(key, f"{mode} inference images/s", is_cost=True) for mode, key in INFERENCE.items()),
]
_KNOWN = {one.key: one for one in (*_ACCURACIES, *_PRECISIONS, *_COSTS)}


def quantity(key: str, direction: Direction | None = None) -> Quantity:
    """Return the quantity of a key, in its own direction unless one is given; an unknown metric is named by its key."""
    known = _KNOWN.get(key) or Quantity(key, key, decimals=4)
    return replace(known, direction=direction or known.direction)


def run_value(run: Run, key: str) -> float | None:
    """Return a metric of a run's best epoch, or a cost; `None` where it is missing or not finite."""
    value = value_of(run.summary, key) if run.summary else None
    return value if value is not None and isfinite(value) else None


def rank_of(runs: Sequence[Run], key: str, direction: Direction) -> tuple[float, float]:
    """Return a key by which the better runs come first: by the mean of a quantity, and by the mean loss if equal."""
    values = [value for run in runs if (value := run_value(run, key)) is not None]
    losses = [loss for run in runs if (loss := run_value(run, loss_beside(key))) is not None]
    value = mean(values) if values else inf
    return (value if direction == "min" or not values else -value, mean(losses) if losses else inf)


@dataclass(frozen=True)
class Factor:
    """A choice that varies over the cells."""

    header: str
    """Shortest end of its flag that no other flag has; empty where the levels are whole cells."""
    by_cell: tuple[str, ...]
    """Value of each cell as text."""

    @cached_property
    def levels(self) -> tuple[str, ...]:
        """Different values in the order of the sweep; the others are compared with the first."""
        return tuple(dict.fromkeys(self.by_cell))


@dataclass(frozen=True)
class Spread:
    """A quantity of a cell over its runs; inference speed, which is measured once, has one of seed 0."""

    by_run: dict[tuple[int, int], float]
    """By seed and fold."""
    quartiles: tuple[float, float] | None = None
    """Quartiles over the rounds of a measurement of inference speed."""
    folds: int = 0
    """Folds of the cross-validation; 0 for none."""

    @cached_property
    def mean(self) -> float:
        """Mean over seeds and folds."""
        return float(np.mean(list(self.by_run.values())))

    @cached_property
    def sd(self) -> float | None:
        """Standard deviation over seeds; over folds, the error of their mean (see `shared_data`); `None` for one."""
        by_fold: dict[int, list[float]] = {}
        for place, ((_, fold), value) in enumerate(self.by_run.items()):
            by_fold.setdefault(fold if self.folds else place, []).append(value)
        means = [mean(values) for values in by_fold.values()]
        if len(means) < 2:
            return None
        factor = 1 / len(means) + shared_data(self.folds) if self.folds else 1.0
        return float(np.std(means, ddof=1)) * factor**0.5

    def show(self, quantity: Quantity) -> str:
        """Format the mean ± `sd` with the mean's decimals; the mean alone where all runs agree to them."""
        mean = quantity.show(self.mean)
        spread = f"{(self.sd or 0.0) * quantity.scale:.{len(mean.partition('.')[2])}f}"
        return f"{mean} ± {spread}" if float(spread) else mean


@dataclass(frozen=True)
class Row:
    """A cell in numbers."""

    number: int
    """Position in the sweep, from 1."""
    cell: Cell
    name: str
    """Name for a legend: the levels, or the name of a list's row."""
    levels: dict[str, str]
    """Levels by header of the factor."""
    values: dict[str, Spread]
    """Quantities of the runs that are done, by key."""
    speed: dict[str, Any]
    """Inference speed as `shvit_pl.sweep.speed` returns it."""
    paper: PaperRow | DetectorRow | None
    """Published counterpart."""

    @property
    def label(self) -> str:
        """Number and name."""
        return f"{self.number}: {self.name}"

    def show(self, quantity: Quantity) -> str:
        """Format a quantity; empty where it is not known."""
        return self.values[quantity.key].show(quantity) if quantity.key in self.values else ""


@dataclass(frozen=True)
class Column:
    """A column of the table as it is shown, with one entry per row."""

    header: str
    kind: Literal["number", "name", "choice", "runs", "quantity", "paper"]
    text: list[str]
    numbers: list[float | None] | None = None
    """Numbers to sort by; `None` for a column that is sorted by its text."""


@dataclass(frozen=True)
class Table:
    """All cells of a sweep in numbers."""

    results: Results
    headers: dict[str, str]
    """Short name of each flag that a cell sets."""
    factors: list[Factor]
    """Choices that vary."""
    constants: dict[str, str]
    """Flags that have the same value in all cells."""
    quantities: list[Quantity]
    """Quantities that at least one cell has: accuracies and objectives, then costs."""
    primary: Quantity
    """First objective that is no cost, or else top-1."""
    rows: list[Row]

    @property
    def gains(self) -> list[Quantity]:
        """Quantities that are compared by a difference."""
        return [one for one in self.quantities if not one.is_cost]

    @property
    def costs(self) -> list[Quantity]:
        """Quantities that are compared by a ratio."""
        return [one for one in self.quantities if one.is_cost]

    @property
    def names_title(self) -> str:
        """The parts of the rows' names, for the title of a legend."""
        return "" if self.results.kind == "list" else " · ".join(factor.header for factor in self.factors)

    @cached_property
    def columns(self) -> list[Column]:
        """The columns as they are shown."""
        rows = self.rows
        columns = [Column("no.", "number", [str(row.number) for row in rows], [row.number for row in rows])]
        if self.results.kind == "list":  # its names say more than the choices
            columns.append(Column("cell", "name", [row.name for row in rows]))
        for header in (factor.header for factor in self.factors):
            columns.append(Column(header, "choice", [row.levels[header] for row in rows]))
        runs = [_count_runs(row.cell) for row in rows]
        columns.append(Column("runs done", "runs", runs, [len(row.cell.done) for row in rows]))
        for one in self.quantities:
            means = [row.values[one.key].mean if one.key in row.values else None for row in rows]
            columns.append(Column(one.header, "quantity", [row.show(one) for row in rows], means))
        for key, header in _PAPER.items():
            published = [getattr(row.paper, key, None) for row in rows]
            if any(published):
                form = ".3f" if key in ("top1", "ap", "mask_ap") else ""
                texts = ["" if value is None else format(value, form) for value in published]
                columns.append(Column(header, "paper", texts, published if key != "source" else None))
        return columns

    @property
    def uncertainty(self) -> str:
        """What ± is in this table."""
        folds = "standard error of the mean over folds, corrected for the training images that folds share"
        return folds if self.results.folds else "standard deviation over seeds"

    def array(self, quantity: Quantity) -> NDArray[np.float64]:
        """Return a quantity as an array `(cells, runs)`, in the order of `units`, with NaN for what is missing."""
        by_run = [row.values[quantity.key].by_run if quantity.key in row.values else {} for row in self.rows]
        units = self.units(quantity)
        values = [[known.get(unit, np.nan) for unit in units] for known in by_run]
        return np.array(values).reshape(len(by_run), len(units))

    def units(self, quantity: Quantity) -> list[tuple[int, int]]:
        """Return the seeds and folds of which some cell has a quantity."""
        rows = (row.values[quantity.key].by_run for row in self.rows if quantity.key in row.values)
        return sorted({unit for by_run in rows for unit in by_run})


def shared_data(folds: int) -> float:
    """Return what n_test / n_train adds to 1/k in the variance of a mean over k folds.

    Folds share training images, so that the plain variance of their mean is too small: by Nadeau and Bengio (2003,
    "Inference for the generalization error", section 3), it is (1/k + n_test / n_train) times that of a fold.
    """
    return 1 / (folds - 1)


def make_table(results: Results) -> Table:
    """Work out one row per cell."""
    cells, objectives = results.cells, results.objectives
    headers = short_names(dict.fromkeys(flag for cell in cells for flag in cell.choices))
    levels = {
        flag: tuple(shown(cell.choices[flag]) if flag in cell.choices else _DEFAULT for cell in cells)
        for flag in headers
    }
    factors = [Factor(headers[flag], by_cell) for flag, by_cell in levels.items() if len(set(by_cell)) > 1]
    keys = dict.fromkeys(
        (ACCURACY, ACCURACY + EMA, *AT_END, *objectives, *(one.key for one in _COSTS if one.key != _TIME))
    )
    quantities = sorted((quantity(key, objectives.get(key)) for key in keys), key=lambda one: one.is_cost)
    speeds = (results.speed or {}).get("cells") or {}
    rows = []
    for i, cell in enumerate(cells):
        chosen, speed = {factor.header: factor.by_cell[i] for factor in factors}, speeds.get(cell.name) or {}
        name = cell.name if results.kind == "list" else " · ".join(chosen.values()) or cell.name
        spreads = {one.key: _spread(cell, one, speed, results.folds) for one in quantities}
        values = {key: spread for key, spread in spreads.items() if spread.by_run}
        summary = next((run.summary for run in cell.done if run.summary), None)
        rows.append(Row(i + 1, cell, name, chosen, values, speed, paper_row(summary) if summary else None))
    gains = (quantity(key, direction) for key, direction in objectives.items() if not quantity(key).is_cost)
    constants = {flag: by_cell[0] for flag, by_cell in levels.items() if len(set(by_cell)) == 1}
    known = [one for one in quantities if any(one.key in row.values for row in rows)]
    return Table(results, headers, factors, constants, known, next(gains, quantity(ACCURACY)), rows)


def _spread(cell: Cell, quantity: Quantity, speed: dict[str, Any], folds: int) -> Spread:
    for mode, key in INFERENCE.items():
        if quantity.key == key:
            rate, quartiles = speed.get(mode), speed.get(f"{mode}_iqr")
            return Spread({} if rate is None else {(0, 0): rate}, (quartiles[0], quartiles[1]) if quartiles else None)
    values = {run.unit: run_value(run, quantity.key) for run in cell.done}
    return Spread({unit: value for unit, value in values.items() if value is not None}, folds=folds)


def _count_runs(cell: Cell) -> str:
    """Return the number of runs that are done, such as `2 of 3, 1 failed`."""
    counts = Counter(run.state for run in cell.runs)
    lost = [f"{counts[state]} {state}" for state in ("failed", "pruned") if counts[state]]
    return ", ".join([f"{len(cell.done)} of {len(cell.runs)}", *lost])
