"""What defines a sweep: read from its file, recorded in its study, compared when it is started again."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from shvit_pl.errors import UserError
from shvit_pl.sweep.plan.objectives import Direction
from shvit_pl.sweep.plan.points import Point, cells_of, points_of
from shvit_pl.sweep.plan.sweep_file import KINDS, Kind, SweepFile

if TYPE_CHECKING:
    from shvit_pl.fit.check import FitCheck  # torch, which workers do without

_SHOWN = 3  # differences in a message
_LONGEST = 30  # characters of a value in it
_UNSET = "unset"


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

    kind: Kind
    cells: dict[str, dict[str, Any]]
    seeds: tuple[int, ...]
    objectives: dict[str, Direction]
    settings: dict[str, Any]
    search: dict[str, Any] | None = None

    @cached_property
    def points(self) -> dict[str, Point]:
        """The runs by their keys."""
        return {point.key: point for point in points_of(self.cells, self.seeds)}

    @property
    def counted(self) -> str:
        """How many runs these are: `24 runs (8 cells, seeds 0, 1, 2)`."""
        if self.kind == "search":
            return f"{len(self.cells)} trials"
        return f"{len(self.points)} runs ({len(self.cells)} cells, seeds {', '.join(map(str, self.seeds))})"

    @property
    def pruner(self) -> str:
        """What ends hopeless runs of a search early; `none` of any other sweep."""
        return "none" if self.search is None else str(self.search["pruner"])

    def as_dict(self) -> dict[str, Any]:
        """As it is stored."""
        return asdict(self) | {"seeds": list(self.seeds)}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Definition:
        """As it was stored."""
        return cls(**{**stored, "seeds": tuple(stored["seeds"])})


def define(file: SweepFile, base: Sequence[str], fit: FitCheck) -> Definition:
    """What a sweep file means with these flags of `fit`; raises `UserError` for flags that `fit` refuses."""
    settings = fit.settings(base)
    _check_keeps_a_run(fit.trainer)
    varied = {"seed_everything", "monitor", *file.varied}
    fixed = {name: value for name, value in settings.items() if not _is_within(name, varied)}
    search = {key: value for key, value in asdict(file.search).items() if key != "n_trials"} if file.search else None
    kind = next(kind for kind, given in zip(KINDS, (file.grid, file.rows, file.search), strict=True) if given)
    return Definition(kind, _plain(cells_of(file)), file.seeds, dict(file.objectives), _plain(fixed), _plain(search))


def _check_keeps_a_run(trainer: Any) -> None:
    """A sweep reads what its runs leave behind."""
    if trainer.fast_dev_run or trainer.logger is False:
        name, value = ("fast_dev_run", trainer.fast_dev_run) if trainer.fast_dev_run else ("logger", False)
        raise UserError(f"trainer.{name} {value}: a run of a sweep keeps its run folder; leave it out of base.")


def _is_within(name: str, varied: Iterable[str]) -> bool:
    """Whether a setting is varied, by itself or with its section."""
    return any(name == flag or name.startswith(f"{flag}.") for flag in varied)


def _plain(value: Any) -> Any:
    """As it comes back from the study."""
    return json.loads(json.dumps(value, default=str))


def refuse_other(before: Definition, now: Definition, where: str) -> None:
    """Raise `UserError` with the difference where a sweep is not the one before, or that one with more points.

    Args:
        before: The sweep that is there.
        now: The sweep that is asked for.
        where: The flag that says where, and its value.
    """
    differences = list(_differences(before, now))
    if not differences:
        return
    more = f"; and {len(differences) - _SHOWN} more" if len(differences) > _SHOWN else ""
    raise UserError(
        f"{where}: it holds another sweep ({'; '.join(differences[:_SHOWN])}{more}). Choices, seeds and trials may "
        f"be added, nothing else changed: undo the change, or give another {where.split()[0]}."
    )


def _differences(before: Definition, now: Definition) -> Iterator[str]:
    """What is not as before, other than cells and seeds that are new."""
    if before.kind != now.kind:
        yield f"{before.kind} -> {now.kind}"
        return
    if list(before.objectives.items()) != list(now.objectives.items()):  # the study keeps their values in this order
        yield f"objective {_named(before.objectives)} -> {_named(now.objectives)}"
    yield from _changed(before.search or {}, now.search or {})
    gone = [name for name in before.cells if name not in now.cells]
    if before.kind == "search" and gone:
        yield f"n_trials {len(before.cells)} -> {len(now.cells)}"
    else:
        yield from (f"{name} is gone" for name in gone)
    for name, choices in before.cells.items():
        yield from _changed(choices, now.cells.get(name, choices), f"{name}: ")
    yield from (f"seed {seed} is gone" for seed in before.seeds if seed not in now.seeds)
    yield from _changed(before.settings, now.settings)
    if not gone and set(before.seeds) <= set(now.seeds):
        yield from (f"{key} would have another folder" for key in before.points if key not in now.points)


def _changed(before: Mapping[str, Any], now: Mapping[str, Any], where: str = "") -> Iterator[str]:
    for name in {**before, **now}:
        old, new = before.get(name, _UNSET), now.get(name, _UNSET)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            yield from _changed(old, new, f"{where}{name}.")
        elif old != new:
            yield f"{where}{name} {_short(old)} -> {_short(new)}"


def _named(objectives: Mapping[str, Direction]) -> str:
    return ", ".join(f"{name} {direction}" for name, direction in objectives.items())


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."
