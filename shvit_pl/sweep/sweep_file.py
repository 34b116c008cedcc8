"""The sweep file: which fit, which choices, which seeds, and what is compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from shvit_pl.config_files import find_config
from shvit_pl.errors import UserError, did_you_mean
from shvit_pl.sweep.objectives import read_objectives
from shvit_pl.sweep.results import Direction
from shvit_pl.sweep.search import Search, read_search

KINDS = ("grid", "list", "search")
_KEYS = ("base", *KINDS, "seeds", "objective")


@dataclass(frozen=True)
class SweepFile:
    """What a sweep file says, with its shape checked; its keys and values are checked against `fit` later.

    Attributes:
        path: The file.
        base: Configs of `fit`, found, in the order of layering.
        grid: Flags and the values whose product is taken.
        rows: Named rows of flags, of `list`.
        search: Ranges to search.
        seeds: One run of every cell for each.
        objectives: Metrics and their directions.
    """

    path: Path
    base: tuple[str, ...]
    grid: dict[str, list[Any]] | None
    rows: dict[str, dict[str, Any]] | None
    search: Search | None
    seeds: tuple[int, ...]
    objectives: dict[str, Direction]


def is_sweep_file(path: str) -> bool:
    """Whether a YAML file says what to sweep, and not only how to fit."""
    settings = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    return isinstance(settings, Mapping) and any(kind in settings for kind in (*KINDS, "base"))


def read_sweep_file(path: str) -> SweepFile:
    """Read a sweep file; raises `UserError` for keys that it can't have, and values that make no sweep."""
    settings = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    for key in settings:
        if key not in _KEYS:
            hint = did_you_mean(str(key), _KEYS)
            raise UserError(f"--config {path!r}: {key}: no such key{hint}; allowed are {', '.join(_KEYS)}.")
    kinds = [kind for kind in KINDS if kind in settings]
    if len(kinds) != 1:
        found = " and ".join(kinds) or "none of them"
        raise UserError(f"--config {path!r}: give one of grid, list and search; it has {found}.")
    search = read_search(settings["search"], path) if kinds == ["search"] else None
    objectives = read_objectives(settings.get("objective", "val/acc1"), path)
    if search is not None:
        search.check_objectives(objectives, path)
    return SweepFile(
        Path(path),
        _found(settings.get("base"), Path(path)),
        _grid(settings["grid"], path) if kinds == ["grid"] else None,
        _rows(settings["list"], path) if kinds == ["list"] else None,
        search,
        _seeds(settings.get("seeds", [0]), path, one=search is not None),
        objectives,
    )


def _found(base: Any, path: Path) -> tuple[str, ...]:
    """The base's configs: from the working directory, or beside the sweep file, or shipped."""
    names = [base] if isinstance(base, str) else [] if base is None else base
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UserError(f"--config {str(path)!r}: base {base!r}: allowed is a config of fit, or a list of them.")
    return tuple(_as_fit_finds_it(name, path.parent) for name in names)


def _as_fit_finds_it(name: str, beside: Path) -> str:
    """A shipped config keeps its name, so that a command can be repeated on another machine."""
    found = find_config(name, beside=beside)
    return found if found in (name, str(beside / name)) else name


def _grid(grid: Any, path: str) -> dict[str, list[Any]]:
    if not isinstance(grid, dict) or not grid:
        raise UserError(f"--config {path!r}: grid is empty; give flags and their values, such as {_EXAMPLE}.")
    for flag, values in grid.items():
        if not isinstance(values, list) or not values:
            raise UserError(f"--config {path!r}: grid: {flag} {values!r}: allowed is a list of values.")
        if len({repr(value) for value in values}) < len(values):
            raise UserError(f"--config {path!r}: grid: {flag} {values!r}: a value is there twice; keep one.")
    return {str(flag): values for flag, values in grid.items()}


_EXAMPLE = "{model.design.patch_size: [4, 16]}"


def _rows(rows: Any, path: str) -> dict[str, dict[str, Any]]:
    if not isinstance(rows, dict) or not rows:
        raise UserError(
            f"--config {path!r}: list is empty; give rows by name, such as {{small: {{model.design.name: tiny}}}}."
        )
    for name, row in rows.items():
        if row is not None and not isinstance(row, dict):
            raise UserError(f"--config {path!r}: list: {name}: {row!r}: allowed are flags and their values.")
    return {str(name): row or {} for name, row in rows.items()}


def _seeds(seeds: Any, path: str, one: bool) -> tuple[int, ...]:
    good = isinstance(seeds, list) and seeds and all(type(seed) is int and 0 <= seed < 2**32 for seed in seeds)
    if not good or len(set(seeds)) < len(seeds):
        raise UserError(f"--config {path!r}: seeds {seeds!r}: allowed is a list of different whole numbers from 0.")
    if one and len(seeds) > 1:
        raise UserError(
            f"--config {path!r}: seeds {seeds!r}: a search trains each trial once; give one seed, and repeat the best "
            "trials over seeds by a list."
        )
    return tuple(seeds)
