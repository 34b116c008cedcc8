"""The sweep file: which fit, which choices, which seeds, and what is compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from reprlib import repr as short
from typing import Any, Literal

from shvit_pl.command_line.config_files import find_config, read_config
from shvit_pl.errors import UserError, did_you_mean
from shvit_pl.sweep.plan.flags import check_choices, check_flag, check_keys
from shvit_pl.sweep.plan.objectives import Direction, read_objectives
from shvit_pl.sweep.plan.search import SEARCH_KEYS, Search, read_search

Kind = Literal["grid", "list", "search"]
KINDS: tuple[Kind, ...] = ("grid", "list", "search")
_KEYS = ("base", *KINDS, "seeds", "objective")
IN_FILE = {*_KEYS, "seed", *SEARCH_KEYS}  # what nobody should look for on the command line
_SHIPPED = "cli_configs/sweeps/macro.yaml"
_EXAMPLE = "{model.design.patch_size: [4, 16]}"


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

    @property
    def varied(self) -> list[str]:
        """The flags that the sweep chooses, of a list once per row."""
        rows = [self.grid or {}, *(self.rows or {}).values(), self.search.space if self.search else {}]
        return [flag for row in rows for flag in row]


def pick_sweep_file(configs: Sequence[str]) -> tuple[str, list[str]]:
    """The path of the one sweep file among `--config`, and the others, which are layered on its base."""
    settings = {config: read_config(find_config(config)) for config in configs}
    sweeps = [config for config, said in settings.items() if _is_sweep(said)]
    if len(sweeps) == 1:
        return find_config(sweeps[0]), [config for config in settings if config != sweeps[0]]
    given = f"--config {', '.join(map(repr, configs))}".strip()
    if sweeps:
        raise UserError(f"{given}: {len(sweeps)} of these are sweep files; give one, and configs of fit beside it.")
    record = next((str(said["command"]) for said in settings.values() if "definition" in said), None)
    if record is not None:
        raise UserError(f"{given}: the record of a sweep, not a sweep file; it was started by: {record}")
    hint = next(filter(None, (did_you_mean(str(key), KINDS) for said in settings.values() for key in said)), "")
    raise UserError(f"{given}: no sweep file, which has grid, list or search{hint}; give one, such as {_SHIPPED}.")


def _is_sweep(settings: dict[Any, Any]) -> bool:
    return any(key in settings for key in _KEYS)


def read_sweep_file(path: str) -> SweepFile:
    """Read a sweep file; raises `UserError` for keys that it can't have, and values that make no sweep."""
    settings = read_config(path)
    check_keys(settings, _KEYS, f"--config {path!r}")
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
        _found(settings.get("base", []), Path(path)),
        _grid(settings["grid"], path) if kinds == ["grid"] else None,
        _rows(settings["list"], path) if kinds == ["list"] else None,
        search,
        _seeds(settings.get("seeds", [0]), path, one=search is not None),
        objectives,
    )


def _found(base: Any, path: Path) -> tuple[str, ...]:
    """The base's configs: from the working directory, or beside the sweep file, or shipped."""
    names = [base] if isinstance(base, str) else base
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UserError(f"--config {str(path)!r}: base {short(base)}: allowed is a config of fit, or a list of them.")
    return tuple(_as_fit_finds_it(name, path) for name in names)


def _as_fit_finds_it(name: str, path: Path) -> str:
    """A shipped config keeps its name, so that a command can be repeated on another machine."""
    where = f"--config {str(path)!r}: base"
    found = find_config(name, beside=path.parent, flag=where)
    if _is_sweep(read_config(found)):
        raise UserError(f"{where} {name!r}: a sweep file; allowed is a config of fit, or a list of them.")
    return found if found in (name, str(path.parent / name)) else name


def _grid(grid: Any, path: str) -> dict[str, list[Any]]:
    if not isinstance(grid, dict) or not grid:
        raise UserError(f"--config {path!r}: grid is empty; give flags and their values, such as {_EXAMPLE}.")
    for flag, values in grid.items():
        check_choices(flag, values, f"--config {path!r}: grid")
    return grid


def _rows(rows: Any, path: str) -> dict[str, dict[str, Any]]:
    if not isinstance(rows, dict) or not rows:
        raise UserError(
            f"--config {path!r}: list is empty; give rows by name, such as {{small: {{model.design.name: tiny}}}}."
        )
    for name, row in rows.items():
        if row is not None and not isinstance(row, dict):
            raise UserError(f"--config {path!r}: list: {name}: {short(row)}: allowed are flags and their values.")
        for flag, value in (row or {}).items():
            check_flag(flag, value, f"--config {path!r}: list: {name}")
    return {" ".join(str(name).split()): row or {} for name, row in rows.items()}


def _seeds(seeds: Any, path: str, one: bool) -> tuple[int, ...]:
    where = f"--config {path!r}: seeds {short(seeds)}"
    good = isinstance(seeds, list) and seeds and all(type(seed) is int and 0 <= seed < 2**32 for seed in seeds)
    if not good or len(set(seeds)) < len(seeds):
        raise UserError(f"{where}: allowed is a list of different whole numbers from 0.")
    if one and len(seeds) > 1:
        raise UserError(
            f"{where}: a search trains each trial once; give one seed, and repeat the best trials over seeds by a list."
        )
    return tuple(seeds)
