"""Results of a sweep so far."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from shvit_pl.sweep.plan.definition import Direction, Kind

State = Literal["done", "pruned", "failed", "running", "waiting"]


@dataclass(frozen=True)
class Run:
    """A cell with a seed."""

    seed: int
    state: State
    """`failed` where the last try failed, which may be tried again."""
    summary: dict[str, Any] | None
    """`summary.json` of a run that is done or pruned."""
    curves: dict[str, list[tuple[float, float]]]
    """Validation metrics over epochs (from 1): `{"val/acc1": [(1.0, 0.31), (2.0, 0.45)]}`."""
    folder: str | None
    """The run folder, relative to the sweep's."""
    command: str
    """The command that repeats the run; empty before it is known."""
    error: str | None = None
    """The last error line of a failed run."""


@dataclass(frozen=True)
class Cell:
    """A choice and its runs."""

    name: str
    """A short name, unique in the sweep: `patch_size 4, stages 3, stage1 conv`."""
    choices: dict[str, Any]
    """Flags of `fit` and their values: `{"model.design.patch_size": 4, ...}`."""
    runs: tuple[Run, ...]

    @cached_property
    def done(self) -> tuple[Run, ...]:
        """The runs that ended well."""
        return tuple(run for run in self.runs if run.state == "done")


@dataclass(frozen=True)
class Results:
    """Everything that a report is made from."""

    title: str
    kind: Kind
    objectives: dict[str, Direction]
    cells: tuple[Cell, ...]
    """The cells in the order of the sweep file."""
    speed: dict[str, Any] | None = None
    """Inference speed of the cells, as `shvit_pl.sweep.speed` returns it; `None` before it is measured."""
