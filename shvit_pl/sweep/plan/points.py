"""From a sweep file to its cells, and to its points, which are runs: names that are unique."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import product
from typing import Any

from shvit_pl.sweep.plan.flags import short_names, written
from shvit_pl.sweep.plan.sweep_file import SweepFile

_LONGEST = 120  # characters of a folder's name, before it is cut
_LONGEST_VALUE = 40  # characters of a value in a cell's name


@dataclass(frozen=True)
class Point:
    """One run: what is chosen, and a seed.

    Attributes:
        key: Names the point in the study, and its run folder.
        cell: Name of what is chosen.
        choices: Flags and values; empty where a search samples them.
        seed: `seed_everything`.
    """

    key: str
    cell: str
    choices: dict[str, Any] = field(hash=False)
    seed: int


def cells_of(file: SweepFile) -> dict[str, dict[str, Any]]:
    """The cells by name, in the file's order; a search's are its trials, whose choices are not known yet."""
    if file.grid is not None:
        rows = [dict(zip(file.grid, values, strict=True)) for values in product(*file.grid.values())]
        short = short_names(file.grid)
        cells: dict[str, dict[str, Any]] = {}
        for row in rows:
            name = ", ".join(f"{short[flag]} {_shown(value)}" for flag, value in row.items())
            cells[name if name not in cells else f"{name} ({_digest(str(row))})"] = row
        return cells
    if file.rows is not None:
        return dict(file.rows)
    assert file.search is not None
    return {f"trial {number}": {} for number in range(1, file.search.n_trials + 1)}


def points_of(cells: Mapping[str, dict[str, Any]], seeds: Sequence[int]) -> list[Point]:
    """Every cell with the first seed, then every cell with the next: a sweep cut short has whole seeds."""
    folders = _folder_names(list(cells))
    return [
        Point(f"{folders[name]}_seed-{seed}", name, choices, seed) for seed in seeds for name, choices in cells.items()
    ]


def _shown(value: Any) -> str:
    """A value in a cell's name: a long one by its end, and by what no other value has."""
    text = " ".join(written(value).split())
    if isinstance(value, list):
        text = text.replace('"', "")
    return text if len(text) <= _LONGEST_VALUE else f"...{text[-30:]} ({_digest(text)})"


def _folder_names(names: Sequence[str]) -> dict[str, str]:
    """A folder's name for each cell: readable, short and unique also where a file system ignores case."""
    plain = {name: re.sub(r"[^a-zA-Z0-9_.,-]+", "-", name.replace(", ", "_")).strip("-._") for name in names}
    seen = [name.lower() for name in plain.values()]
    return {
        name: short if short and len(short) <= _LONGEST and seen.count(short.lower()) == 1 else _hashed(name, short)
        for name, short in plain.items()
    }


def _hashed(name: str, short: str) -> str:
    return f"{short[: _LONGEST - 9]}-{_digest(name)}".lstrip("-")


def _digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:8]
