"""What is compared: accuracies, which are noisy over seeds, and costs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import floor, isfinite, log10
from typing import Any

from shvit_pl.runs.metrics import EMA
from shvit_pl.sweep.plan.objectives import COSTS, Direction, value_of
from shvit_pl.sweep.results import Cell, Results, Run

ACCURACY = "val/acc1"
TRAINING = "images_per_second"
TIME = "wall_seconds"
INFERENCE = {"eager": "inference_eager", "compiled": "inference_compiled"}  # keys of `Results.speed`, and ours


@dataclass(frozen=True)
class Quantity:
    """A number that a run or a cell has.

    Attributes:
        key: Its key in a summary, or one of `INFERENCE`.
        name: Its name in a sentence.
        unit: Of the values as shown.
        scale: What a value is multiplied with to be shown.
        is_cost: Costs are compared by their ratio, all else by its difference.
        direction: What is better.
        decimals: As shown; `None` for three significant digits.
        is_measured: Whether it has noise; parameters and MACs are exact.
    """

    key: str
    name: str
    unit: str = ""
    scale: float = 1.0
    is_cost: bool = False
    direction: Direction = "max"
    decimals: int | None = None
    is_measured: bool = True

    @property
    def is_inference(self) -> bool:
        """Whether it is measured once for a cell, not in every run."""
        return self.key in INFERENCE.values()

    @property
    def header(self) -> str:
        """Name and unit."""
        return f"{self.name} ({self.unit})" if self.unit else self.name

    @property
    def step(self) -> str:
        """The unit of a difference: percent differ by points."""
        return "points" if self.unit == "%" else self.unit

    def show(self, value: float) -> str:
        """A value as text, without its unit."""
        return rounded(value * self.scale, self.decimals)


_ACCURACIES = {
    name: Quantity(f"val/{key}", name, "%", scale=100.0, decimals=2)
    for key, name in (("acc1", "top-1"), ("acc5", "top-5"))
}
_COSTS = (
    Quantity("params", "parameters", "M", scale=1e-6, is_measured=False),
    Quantity("macs", "MACs", "M", scale=1e-6, is_measured=False),
    Quantity(TRAINING, "training images/s"),
    Quantity("peak_memory_mb", "peak memory", "MB"),
    Quantity(TIME, "training time", "s"),
    *(Quantity(key, f"{how} inference images/s") for how, key in INFERENCE.items()),
)
_KNOWN = {
    quantity.key: quantity
    for quantity in (
        *_ACCURACIES.values(),
        *(replace(one, key=one.key + EMA, name=f"{one.name} of the average") for one in _ACCURACIES.values()),
        *(replace(one, is_cost=True, direction=COSTS.get(one.key, "max")) for one in _COSTS),
    )
}
_GAINS = (ACCURACY, ACCURACY + EMA)
_COLUMNS = [one.key for one in _COSTS if one.key != TIME]  # images/s say as much


def quantity(key: str, direction: Direction | None = None) -> Quantity:
    """The quantity of a key, with its own direction unless another is given; an unknown metric goes by its key."""
    known = _KNOWN.get(key) or Quantity(key, key, decimals=4)
    return replace(known, direction=direction or known.direction)


def quantities(results: Results) -> list[Quantity]:
    """What the sweep's cells are compared in: accuracies and objectives first, then costs; none that no run has."""
    keys = dict.fromkeys((*_GAINS, *results.objectives, *_COLUMNS))
    every = (quantity(key, results.objectives.get(key)) for key in keys)
    known = [one for one in every if any(cell_values(results, cell, one) for cell in results.cells)]
    return sorted(known, key=lambda one: one.is_cost)


def primary(results: Results) -> Quantity:
    """What the page is about: the first objective that is no cost, or else top-1."""
    named = (quantity(key, direction) for key, direction in results.objectives.items())
    return next((one for one in named if not one.is_cost), _KNOWN[ACCURACY])


def cell_values(results: Results, cell: Cell, of: Quantity) -> dict[int, float]:
    """A quantity of a cell by seed, of the runs that are done. Inference speed, measured once, has the seed 0."""
    if of.is_inference:
        rate = cell_speed(results, cell).get(_how(of))
        return {} if rate is None else {0: float(rate)}
    values = {run.seed: run_value(run, of.key) for run in cell.done}
    return {seed: value for seed, value in values.items() if value is not None}


def cell_quartiles(results: Results, cell: Cell, of: Quantity) -> dict[int, float]:
    """Of a cell's inference speed over the rounds, the lower as 0 and the upper as 1; empty where there are none."""
    quartiles = cell_speed(results, cell).get(f"{_how(of)}_iqr") if of.is_inference else None
    return dict(enumerate(map(float, quartiles or ())))


def cell_speed(results: Results, cell: Cell) -> dict[str, Any]:
    """What is known of a cell's inference speed (see `shvit_pl.sweep.speed`)."""
    return ((results.speed or {}).get("cells") or {}).get(cell.name) or {}


def run_value(run: Run, key: str) -> float | None:
    """A metric of the best epoch, or a cost; `None` where the run has none that is a number."""
    found = value_of(run.summary, key) if run.summary else None
    return found if found is not None and isfinite(found) else None


def rounded(value: float, decimals: int | None = None) -> str:
    """A number as text: with so many decimals, or with three significant digits and never an exponent."""
    if decimals is None:
        decimals = max(0, 2 - floor(log10(abs(value)))) if value else 0
    return f"{value:.{decimals}f}"


def _how(of: Quantity) -> str:
    return of.key.removeprefix("inference_")
