"""The quantities that cells are compared in: accuracies, which vary over seeds, and costs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import floor, isfinite, log10

from shvit_pl.runs.metrics import EMA
from shvit_pl.sweep.plan.definition import COSTS, Direction, value_of
from shvit_pl.sweep.results import Results, Run

ACCURACY = "val/acc1"
TRAINING = "images_per_second"
INFERENCE = {"eager": "inference_eager", "compiled": "inference_compiled"}  # keys of `Results.speed`, and ours
_TIME = "wall_seconds"


@dataclass(frozen=True)
class Quantity:
    """A number that a run or a cell has."""

    key: str
    """Key in a summary, or one of `INFERENCE`."""
    name: str
    """Name in a sentence."""
    unit: str = ""
    """Unit of the values as shown."""
    scale: float = 1.0
    """Factor from a value to the one that is shown."""
    is_cost: bool = False
    """Compared by a ratio; all other quantities by a difference."""
    direction: Direction = "max"
    """Which values are better."""
    decimals: int | None = None
    """Decimals shown; `None` for three significant digits."""
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
        """Unit of a difference: percentages differ by points."""
        return "points" if self.unit == "%" else self.unit

    def show(self, value: float) -> str:
        """Format a value, without its unit."""
        return rounded(value * self.scale, self.decimals)


_ACCURACIES = [
    Quantity(f"val/{key}{suffix}", f"{name}{words}", "%", scale=100.0, decimals=2)
    for suffix, words in (("", ""), (EMA, " of the average"))
    for key, name in (("acc1", "top-1"), ("acc5", "top-5"))
]
_COSTS = [
    Quantity("params", "parameters", "M", scale=1e-6, is_measured=False),
    Quantity("macs", "MACs", "M", scale=1e-6, is_measured=False),
    Quantity(TRAINING, "training images/s"),
    Quantity("peak_memory_mb", "peak memory", "MB"),
    Quantity(_TIME, "training time", "s"),
    *(Quantity(key, f"{mode} inference images/s") for mode, key in INFERENCE.items()),
]
_KNOWN = {one.key: one for one in _ACCURACIES} | {
    one.key: replace(one, is_cost=True, direction=COSTS.get(one.key, "max")) for one in _COSTS
}
_COLUMNS = (ACCURACY, ACCURACY + EMA, *(one.key for one in _COSTS if one.key != _TIME))  # images/s say as much


def quantity(key: str, direction: Direction | None = None) -> Quantity:
    """Return the quantity of a key, in its own direction unless one is given; an unknown metric is named by its key."""
    known = _KNOWN.get(key) or Quantity(key, key, decimals=4)
    return replace(known, direction=direction or known.direction)


def reported_quantities(results: Results) -> list[Quantity]:
    """Return what a report shows where runs have it: accuracies and objectives first, then costs."""
    keys = dict.fromkeys((ACCURACY, ACCURACY + EMA, *results.objectives, *_COLUMNS))
    return sorted((quantity(key, results.objectives.get(key)) for key in keys), key=lambda one: one.is_cost)


def primary_quantity(results: Results) -> Quantity:
    """Return the first objective that is no cost, or else top-1."""
    objectives = (quantity(key, direction) for key, direction in results.objectives.items())
    return next((one for one in objectives if not one.is_cost), _KNOWN[ACCURACY])


def run_value(run: Run, key: str) -> float | None:
    """Return a metric of a run's best epoch, or a cost; `None` where it is missing or not finite."""
    value = value_of(run.summary, key) if run.summary else None
    return value if value is not None and isfinite(value) else None


def rounded(value: float, decimals: int | None = None) -> str:
    """Format a number with so many decimals, or with three significant digits and never an exponent."""
    if decimals is None:
        decimals = max(0, 2 - floor(log10(abs(value)))) if value else 0
    return f"{value:.{decimals}f}"
