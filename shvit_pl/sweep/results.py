"""What a sweep has found so far."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from shvit_pl.sweep.plan.definition import Direction, Kind

State = Literal["done", "pruned", "failed", "running", "waiting"]


@dataclass(frozen=True)
class Run:
    """One point of a sweep: a cell with a seed.

    Attributes:
        seed: `seed_everything` of the run.
        state: How far it is; `failed` where its last try did, which may be tried again.
        summary: Its `summary.json`, of a run that is done or pruned.
        curves: Validation metrics over epochs (from 1), such as `{"val/acc1": [(1.0, 0.31), (2.0, 0.45)]}`.
        folder: The run folder, relative to the sweep's.
        command: The command that does it.
        error: The last error line of a run that failed.
    """

    seed: int
    state: State
    summary: dict[str, Any] | None
    curves: dict[str, list[tuple[float, float]]]
    folder: str | None
    command: str
    error: str | None = None


@dataclass(frozen=True)
class Cell:
    """What is chosen, and its runs, one per seed.

    Attributes:
        name: Unique in the sweep, and short: `patch_size 4, stages 3, stage1 conv`.
        choices: Flags of `fit` and their values: `{"model.design.patch_size": 4, ...}`.
        runs: One per seed.
    """

    name: str
    choices: dict[str, Any]
    runs: tuple[Run, ...]

    @cached_property
    def done(self) -> tuple[Run, ...]:
        """The runs that ended well."""
        return tuple(run for run in self.runs if run.state == "done")


@dataclass(frozen=True)
class Results:
    """A sweep's cells, and what they were compared in.

    Attributes:
        title: The sweep's name.
        kind: How its cells were chosen.
        objectives: Metrics and their directions: `{"val/acc1": "max"}`.
        cells: In the order of the sweep file.
        speed: Inference speed of the cells (see `shvit_pl.sweep.speed`), once measured.
    """

    title: str
    kind: Kind
    objectives: dict[str, Direction]
    cells: tuple[Cell, ...]
    speed: dict[str, Any] | None = None
