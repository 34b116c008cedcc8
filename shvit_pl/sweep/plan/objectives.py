"""What cells are compared in: a run's metrics, or its costs."""

from __future__ import annotations

from collections.abc import Mapping
from reprlib import repr as short
from typing import Any, Literal

from shvit_pl.errors import UserError, did_you_mean
from shvit_pl.runs.metrics import MONITORS, better

Direction = Literal["min", "max"]
COSTS: dict[str, Direction] = {
    "params": "min",
    "macs": "min",
    "images_per_second": "max",
    "wall_seconds": "min",
    "peak_memory_mb": "min",
}
_DIRECTIONS: dict[str, Direction] = {name: better(name) for name in MONITORS} | COSTS


def read_objectives(objective: Any, path: str) -> dict[str, Direction]:
    """One metric, a list of them, or a mapping of them to `min` and `max`; raises `UserError` for anything else."""
    named = [objective] if isinstance(objective, str) else objective
    allowed = f"allowed are {', '.join(_DIRECTIONS)}"
    if isinstance(named, list) and all(isinstance(name, str) for name in named):
        if len(set(named)) < len(named):
            raise UserError(f"--config {path!r}: objective {short(named)}: one is there twice; keep one.")
        named = {name: _DIRECTIONS.get(name, "max") for name in named}
    if not isinstance(named, dict) or not named:
        raise UserError(f"--config {path!r}: objective {short(objective)}: {allowed}, or a list of them.")
    for name, direction in named.items():
        if name not in _DIRECTIONS:
            raise UserError(f"--config {path!r}: objective {name}{did_you_mean(str(name), _DIRECTIONS)}: {allowed}.")
        if direction not in ("min", "max"):
            raise UserError(f"--config {path!r}: objective {name} {short(direction)}: allowed are min and max.")
    return dict(named)


def monitor(objectives: Mapping[str, Direction]) -> str:
    """What best.ckpt is the best in: the first objective that is a metric of the validation images."""
    return next((name for name in objectives if name in MONITORS), "val/acc1")


def value_of(summary: Mapping[str, Any], objective: str) -> float | None:
    """An objective's value in a run's `summary.json`: a metric of its best epoch, or a cost."""
    found = summary.get(objective) if objective in COSTS else summary["metrics"].get(objective)
    return None if found is None else float(found)
