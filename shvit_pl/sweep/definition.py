"""What defines a sweep: recorded in its study, and compared when it is started again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from shvit_pl.errors import UserError
from shvit_pl.sweep.grid import Point, points_of
from shvit_pl.sweep.results import Direction

_SHOWN = 4  # differences in a message


@dataclass(frozen=True)
class Definition:
    """What a sweep compares, in plain values.

    Attributes:
        kind: grid, list or search.
        cells: Choices by name.
        seeds: Of each cell.
        objectives: Metrics and their directions.
        settings: Settings of `fit` that all runs begin with, flat, where they change the course of a training.
        search: Sampler, pruner and space of a search.
    """

    kind: str
    cells: dict[str, dict[str, Any]]
    seeds: tuple[int, ...]
    objectives: dict[str, Direction]
    settings: dict[str, Any]
    search: dict[str, Any] | None = None

    @cached_property
    def points(self) -> dict[str, Point]:
        """The runs by their keys."""
        return {point.key: point for point in points_of(self.cells, self.seeds)}

    def as_dict(self) -> dict[str, Any]:
        """As it is stored."""
        return asdict(self) | {"seeds": list(self.seeds)}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Definition:
        """As it was stored."""
        return cls(**{**stored, "seeds": tuple(stored["seeds"])})


def refuse_other(before: Definition, now: Definition, where: str) -> None:
    """Raise `UserError` with the difference where a sweep is not the one before, or that one with more points.

    Args:
        before: The sweep that is there.
        now: The sweep that is asked for.
        where: The flag that says where, and its value.
    """
    differences = [
        f"{name} {getattr(before, name)} -> {getattr(now, name)}"
        for name in ("kind", "objectives", "search")
        if getattr(before, name) != getattr(now, name)
    ]
    differences += _changed(before.settings, now.settings)
    for name, choices in before.cells.items():
        if name not in now.cells:
            differences.append(f"{name} is gone")
        elif now.cells[name] != choices:
            differences += _changed(choices, now.cells[name], f"{name}: ")
    differences += [f"seed {seed} is gone" for seed in before.seeds if seed not in now.seeds]
    if not differences:
        return
    more = f"; and {len(differences) - _SHOWN} more" if len(differences) > _SHOWN else ""
    raise UserError(
        f"{where}: it holds another sweep ({'; '.join(differences[:_SHOWN])}{more}). Choices and seeds may "
        "be added, nothing else changed: undo the change, or give "
        f"another {where.split()[0]}."
    )


def _changed(before: Mapping[str, Any], now: Mapping[str, Any], where: str = "") -> list[str]:
    return [
        f"{where}{name} {before.get(name, 'unset')} -> {now.get(name, 'unset')}"
        for name in {**before, **now}
        if before.get(name) != now.get(name)
    ]
