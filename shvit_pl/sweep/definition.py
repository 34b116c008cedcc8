"""The definition of a sweep: its cells, points and objectives, as its folder records them."""

import json
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from hashlib import sha256
from itertools import product
from pathlib import Path
from typing import Any, Literal, Self

import yaml

from shvit_pl.command_line.config_files import read_config
from shvit_pl.errors import UserError, first_few
from shvit_pl.files import write_whole
from shvit_pl.runs.folder import MONITORS, SWEEP

Kind = Literal["grid", "list", "search"]
Direction = Literal["min", "max"]
COSTS: dict[str, Direction] = {
    "params": "min", "macs": "min", "images_per_second": "max", "wall_seconds": "min", "peak_memory_mb": "min",
}  # fmt: skip
RUNS = "runs"  # each point's run folder, by its key
LOGS = "logs"  # the output of each run
_VALUE_LENGTH = 30  # characters of a value in a message
_FOLDER_LENGTH = 120  # characters of a folder's name, before it is cut
_UNSET = "unset"


@dataclass(frozen=True)
class Point:
    """One run: a cell and a seed, and a fold where there are folds."""

    key: str
    """Name of the point in the study, and of its run folder."""
    cell: str
    choices: dict[str, Any]
    """Flags and values; empty where a search samples them."""
    seed: int
    fold: int = 0
    """Counted from 1; 0 without folds."""

    @property
    def label(self) -> str:
        """Seed and fold: `seed 0`, or `seed 0, fold 2`."""
        return f"seed {self.seed}" + f", fold {self.fold}" * bool(self.fold)


@dataclass(frozen=True)
class Definition:
    """The comparison that a sweep makes, in plain values."""

    kind: Kind
    cells: dict[str, dict[str, Any]]
    """Choices by name."""
    seeds: tuple[int, ...]
    objectives: dict[str, Direction]
    settings: dict[str, Any]
    """Settings of `fit` that all runs begin with, flat, where they change the course of a training."""
    search: dict[str, Any] | None = None
    """Sampler, pruner and space of a search."""
    folds: int = 0
    """Folds of a cross-validation, in each of which every cell runs with every seed; 0 for none."""

    @cached_property
    def points(self) -> dict[str, Point]:
        """The runs by their keys, seed after seed, so that a sweep that is cut short has whole seeds, or folds."""
        folders, folds = _folder_names(list(self.cells)), range(1, self.folds + 1) if self.folds else (0,)
        points = (
            Point(f"{folders[name]}_seed-{seed}" + f"_fold-{fold}" * bool(fold), name, choices, seed, fold)
            for seed, fold, (name, choices) in product(self.seeds, folds, self.cells.items())
        )
        return {point.key: point for point in points}

    @property
    def counted(self) -> str:
        """The number of runs: `24 runs (8 cells, seeds 0, 1, 2)`."""
        if self.kind == "search":
            return f"{len(self.cells)} trials"
        seeds = ", ".join(map(str, self.seeds))
        folds = f", {self.folds} folds" * bool(self.folds)
        return f"{len(self.points)} runs ({len(self.cells)} cells, seeds {seeds}{folds})"

    @property
    def pruner(self) -> str:
        """The pruner of a search; `none` for any other sweep."""
        return "none" if self.search is None else str(self.search["pruner"])

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Self:
        """Return the definition from its stored fields."""
        return cls(**{**stored, "seeds": tuple(stored["seeds"])})


def monitor(objectives: Mapping[str, Direction]) -> str:
    """Return the first objective that is a metric of the validation images: best.ckpt is the best in it."""
    return next((name for name in objectives if name in MONITORS), "val/acc1")


def value_of(summary: Mapping[str, Any], objective: str) -> float | None:
    """Return an objective's value in a run's `summary.json`: a metric of its best epoch, or a cost."""
    value = summary.get(objective) if objective in COSTS else summary["metrics"].get(objective)
    return None if value is None else float(value)


def as_flags(choices: Mapping[str, Any]) -> list[str]:
    """Return choices as flags of `fit`."""
    return [f"--{flag}={written(value)}" for flag, value in choices.items()]


def written(value: Any) -> str:
    """Return a value as it is written on a command line."""
    return value if isinstance(value, str) else json.dumps(value)


def short_names(flags: Iterable[str]) -> dict[str, str]:
    """Return the last component of each flag, with more of them where two flags end alike."""
    parts = {flag: flag.split(".") for flag in flags}
    names = {}
    for flag, own in parts.items():
        others = [other for key, other in parts.items() if key != flag]
        lengths = (n for n in range(1, len(own)) if all(own[-n:] != other[-n:] for other in others))
        names[flag] = ".".join(own[-next(lengths, len(own)) :])
    return names


def digest(text: str) -> str:
    """Return eight characters that hardly any other text has."""
    return sha256(text.encode()).hexdigest()[:8]


def refuse_other(before: Definition, now: Definition, folder: Path) -> None:
    """Raise `UserError` with the differences between a sweep and the one in `folder`, except for new points."""
    if differences := list(_differences(before, now)):
        raise UserError(
            f"--folder {str(folder)!r}: contains another sweep ({first_few(differences)}). Only choices, seeds and "
            "trials can be added: undo the change, or give another --folder."
        )


def _differences(before: Definition, now: Definition) -> Iterator[str]:
    """Yield a description of each change, except for cells and seeds that are new."""
    if before.kind != now.kind:
        yield f"{before.kind} -> {now.kind}"
        return
    old, new = (", ".join(map(" ".join, one.objectives.items())) for one in (before, now))
    if old != new:  # the study keeps their values in this order
        yield f"objective {old} -> {new}"
    yield from _changed(before.search or {}, now.search or {})
    gone = [name for name in before.cells if name not in now.cells]
    if before.kind == "search" and gone:
        yield f"n_trials {len(before.cells)} -> {len(now.cells)}"
    else:
        yield from (f"{name} is gone" for name in gone)
    for name, choices in before.cells.items():
        yield from _changed(choices, now.cells.get(name, choices), f"{name}: ")
    if before.folds != now.folds:
        yield f"folds {before.folds or 'none'} -> {now.folds or 'none'}"
        return
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
            short = (t if len(t) <= _VALUE_LENGTH else f"{t[: _VALUE_LENGTH - 3]}..." for t in (str(old), str(new)))
            yield f"{where}{name} {' -> '.join(short)}"


def _folder_names(names: Sequence[str]) -> dict[str, str]:
    """Return a folder's name for each cell: readable, short and unique also where a file system ignores case."""
    plain = {name: re.sub(r"[^a-zA-Z0-9_.,-]+", "-", name.replace(", ", "_")).strip("-._") for name in names}
    lower = [name.lower() for name in plain.values()]
    for name, short in plain.items():
        if not short or len(short) > _FOLDER_LENGTH or lower.count(short.lower()) > 1:
            plain[name] = f"{short[: _FOLDER_LENGTH - 9]}-{digest(name)}".lstrip("-")
    return plain


def write_record(folder: Path, definition: Definition, command: Sequence[str]) -> None:
    """Write `sweep.yaml`, the record of a sweep folder."""
    record = {"command": shlex.join(command), "definition": asdict(definition)}
    write_whole(folder / SWEEP, yaml.safe_dump(record, sort_keys=False).encode())


def read_definition(folder: Path) -> Definition:
    """Read the definition in `sweep.yaml`; raises `UserError` for a folder without it."""
    where = f"--folder {str(folder)!r}"
    if not (folder / SWEEP).is_file():
        problem = f"not a sweep folder (no {SWEEP})" if folder.is_dir() else "no such folder"
        raise UserError(f"{where}: {problem}; give the folder of a sweep.")
    record = read_config(str(folder / SWEEP), "--folder")
    if record.keys() != {"command", "definition"}:
        raise UserError(f"{where}: its {SWEEP} is not the record of a sweep; give another folder, or rename the file.")
    return Definition.from_dict(record["definition"])
