"""What is compared: accuracies, which are noisy over seeds, and costs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import floor, isfinite, log10

from shvit_pl.runs import EMA
from shvit_pl.sweep.results import Cell, Direction, Results, Run

ACCURACY = "val/acc1"
TRAINING = "images_per_second"
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
    """

    key: str
    name: str
    unit: str = ""
    scale: float = 1.0
    is_cost: bool = False
    direction: Direction = "max"
    decimals: int | None = None

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
_KNOWN = {
    quantity.key: quantity
    for quantity in (
        *_ACCURACIES.values(),
        *(replace(one, key=one.key + EMA, name=f"{one.name} of the average") for one in _ACCURACIES.values()),
        Quantity("params", "parameters", "M", scale=1e-6, is_cost=True, direction="min"),
        Quantity("macs", "MACs", "M", scale=1e-6, is_cost=True, direction="min"),
        Quantity(TRAINING, "training images/s", is_cost=True),
        Quantity("peak_memory_mb", "peak memory", "MB", is_cost=True, direction="min"),
        Quantity("wall_seconds", "training time", "s", is_cost=True, direction="min"),
        *(Quantity(key, f"inference images/s ({how})", is_cost=True) for how, key in INFERENCE.items()),
    )
}
_ALWAYS_GAINS = (ACCURACY, ACCURACY + EMA)
_ALWAYS_COSTS = ("params", "macs", TRAINING, "peak_memory_mb", *INFERENCE.values())


def quantity(key: str, direction: Direction | None = None) -> Quantity:
    """The quantity of a key, with its own direction unless another is given; an unknown metric goes by its key."""
    known = _KNOWN.get(key) or Quantity(key, key, decimals=4)
    return replace(known, direction=direction or known.direction)


def quantities(results: Results) -> list[Quantity]:
    """What the sweep's cells are compared in: accuracies and objectives first, then costs; none that no run has."""
    keys = dict.fromkeys((*_ALWAYS_GAINS, *results.objectives, *_ALWAYS_COSTS))
    every = (quantity(key, results.objectives.get(key)) for key in keys)
    known = [one for one in every if any(cell_values(results, cell, one) for cell in results.cells)]
    return sorted(known, key=lambda one: one.is_cost)


def primary(results: Results) -> Quantity:
    """What the page is about: the first objective that is no cost, or else top-1."""
    named = (quantity(key, direction) for key, direction in results.objectives.items())
    return next((one for one in named if not one.is_cost), _KNOWN[ACCURACY])


def cell_values(results: Results, cell: Cell, of: Quantity) -> dict[int, float]:
    """A quantity of a cell by seed, of the runs that are done. Inference speed, measured once, has the seed 0."""
    if of.key in INFERENCE.values():
        how = next(name for name, key in INFERENCE.items() if key == of.key)
        measured = ((results.speed or {}).get("cells") or {}).get(cell.name) or {}
        value = _number(measured.get(how))
        return {} if value is None else {0: value}
    values = {run.seed: run_value(run, of.key) for run in cell.done}
    return {seed: value for seed, value in values.items() if value is not None}


def run_value(run: Run, key: str) -> float | None:
    """A metric of the best epoch, or a number of the summary itself; `None` where the run has none."""
    summary = run.summary or {}
    return _number((summary.get("metrics") or {}).get(key, summary.get(key)))


def rounded(value: float, decimals: int | None = None) -> str:
    """A number as text: with so many decimals, or with three significant digits and never an exponent."""
    if decimals is None:
        decimals = max(0, 2 - floor(log10(abs(value)))) if value else 0
    return f"{value:.{decimals}f}"


def _number(value: object) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)
    return float(value) if is_number else None  # type: ignore[arg-type]
