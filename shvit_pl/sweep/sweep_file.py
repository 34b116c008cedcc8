"""The sweep file: which configs of `fit`, which choices, which seeds, and what is compared."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import isfinite
from pathlib import Path
from reprlib import repr as short
from typing import Any

from shvit_pl.command_line.config_files import find_config, flat, read_config
from shvit_pl.command_line.parser import SECTIONS, no_section
from shvit_pl.errors import UserError, did_you_mean
from shvit_pl.runs.folder import MONITORS, better
from shvit_pl.sweep.definition import COSTS, Direction, Kind, digest, short_names, written

KINDS: tuple[Kind, ...] = ("grid", "list", "search")
_KEYS = ("base", *KINDS, "seeds", "objective")
_SEARCH_KEYS = ("n_trials", "sampler", "pruner", "space")
IN_FILE = {*_KEYS, "seed", *_SEARCH_KEYS}  # keys of a sweep file, which are no flags
_DIRECTIONS: dict[str, Direction] = {name: better(name) for name in MONITORS} | COSTS
_SAMPLERS = ("tpe", "nsga2", "random")
_PRUNERS = ("none", "median", "halving")
_SHIPPED = "cli_configs/sweeps/macro.yaml"
_RANGE_EXAMPLE = "{low: 1.0e-4, high: 1.0e-2, log: true}"
_VALUE_LENGTH = 40  # characters of a value in a cell's name
_MOST_TRIED = 16  # numbers in a range of whole ones, all of which are opened before the first run


@dataclass(frozen=True)
class SweepFile:
    """A sweep file whose shape is checked; its flags and values are checked against `fit` later."""

    path: Path
    base: tuple[str, ...]
    """Configs of `fit`, found, in the order of layering."""
    kind: Kind
    cells: dict[str, dict[str, Any]]
    """Flags and values by the cell's name, in the file's order; none for the trials of a search."""
    search: dict[str, Any] | None
    """Sampler (empty: tpe for one objective, nsga2 for several), pruner, and the space: for each flag a list of
    choices, or a range `{low, high, log, step}`."""
    seeds: tuple[int, ...]
    """One run of every cell for each."""
    objectives: dict[str, Direction]

    @property
    def varied(self) -> list[str]:
        """The flags that the sweep chooses."""
        rows = [*self.cells.values(), self.search["space"] if self.search else {}]
        return list(dict.fromkeys(flag for row in rows for flag in row))


def pick_sweep_file(configs: Sequence[str]) -> tuple[str, list[str]]:
    """Return the path of the one sweep file among `--config`, and the others, which are layered on its base."""
    contents = {config: read_config(find_config(config)) for config in configs}
    sweeps = [config for config, content in contents.items() if not content.keys().isdisjoint(_KEYS)]
    if len(sweeps) == 1:
        return find_config(sweeps[0]), [config for config in contents if config != sweeps[0]]
    flag = f"--config {', '.join(map(repr, configs))}".strip()
    if sweeps:
        raise UserError(f"{flag}: {len(sweeps)} of these are sweep files; give one, and configs of fit.")
    record = next((str(content["command"]) for content in contents.values() if "definition" in content), None)
    if record is not None:
        raise UserError(f"{flag}: the record of a sweep, not a sweep file; it was started by: {record}")
    keys = (str(key) for content in contents.values() for key in content)
    hint = next(filter(None, (did_you_mean(key, KINDS) for key in keys)), "")
    raise UserError(f"{flag}: no sweep file (with grid, list or search{hint}); give one, such as {_SHIPPED}.")


def read_sweep_file(path: str) -> SweepFile:
    """Read a sweep file; raises `UserError` for unknown keys, and values that make no sweep."""
    content, where = read_config(path), f"--config {path!r}"
    _check_keys(content, _KEYS, where)
    kinds = [kind for kind in KINDS if kind in content]
    if len(kinds) != 1:
        raise UserError(f"{where}: give one of grid, list and search; it has {' and '.join(kinds) or 'none of them'}.")
    kind, section = kinds[0], content[kinds[0]]
    objectives = read_objectives(content.get("objective", "val/acc1"), where)
    search = None
    if kind == "grid":
        cells = _read_grid(section, f"{where}: grid")
    elif kind == "list":
        cells = _read_list(section, f"{where}: list")
    else:
        n_trials, search = _read_search(section, objectives, f"{where}: search")
        cells = {f"trial {number}": {} for number in range(1, n_trials + 1)}
    seeds = content.get("seeds", [0])
    good = isinstance(seeds, list) and seeds and all(type(seed) is int and 0 <= seed < 2**32 for seed in seeds)
    if not good or len(set(seeds)) < len(seeds):
        raise UserError(f"{where}: seeds {short(seeds)}: allowed is a list of different whole numbers from 0.")
    if search is not None and len(seeds) > 1:
        advice = "give one seed, and repeat the best trials over seeds by a list"
        raise UserError(f"{where}: seeds {short(seeds)}: a search trains each trial once; {advice}.")
    base = _read_base(content.get("base", []), Path(path), f"{where}: base")
    return SweepFile(Path(path), base, kind, cells, search, tuple(seeds), objectives)


def _read_base(base: Any, path: Path, where: str) -> tuple[str, ...]:
    """Return the base's configs: from the working directory, or beside the sweep file, or shipped.

    A shipped one keeps its name, so that a command can be repeated on another machine.
    """
    names, found = [base] if isinstance(base, str) else base, list[str]()
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UserError(f"{where} {short(base)}: allowed is a config of fit, or a list of them.")
    for name in names:
        config = find_config(name, near=path.parent, flag=where)
        if not read_config(config).keys().isdisjoint(_KEYS):
            raise UserError(f"{where} {name!r}: a sweep file; allowed is a config of fit, or a list of them.")
        found.append(config if config in (name, str(path.parent / name)) else name)
    return tuple(found)


def _read_grid(grid: Any, where: str) -> dict[str, dict[str, Any]]:
    """Return every combination of a grid's values, named by the flags' short names and the values."""
    if not isinstance(grid, dict) or not grid:
        raise UserError(f"{where} is empty; give flags and their values, such as {{model.design.patch_size: [4, 16]}}.")
    for flag, values in grid.items():
        _check_choices(flag, values, where)
    names, cells = short_names(grid), dict[str, dict[str, Any]]()
    for values in product(*grid.values()):
        row = dict(zip(grid, values, strict=True))
        name = ", ".join(f"{names[flag]} {_name_of(value)}" for flag, value in row.items())
        cells[name if name not in cells else f"{name} ({digest(str(row))})"] = row
    return cells


def _name_of(value: Any) -> str:
    """Return a value for a cell's name: a long one by its end and its digest."""
    text = " ".join(written(value).split())
    if isinstance(value, list):
        text = text.replace('"', "")
    return text if len(text) <= _VALUE_LENGTH else f"...{text[-30:]} ({digest(text)})"


def _read_list(rows: Any, where: str) -> dict[str, dict[str, Any]]:
    if not isinstance(rows, dict) or not rows:
        raise UserError(f"{where} is empty; give rows by name, such as {{small: {{model.design.name: tiny}}}}.")
    for name, row in rows.items():
        if row is not None and not isinstance(row, dict):
            raise UserError(f"{where}: {name}: {short(row)}: allowed are flags and their values.")
        for flag, value in (row or {}).items():
            _check_flag(flag, value, f"{where}: {name}")
    return {" ".join(str(name).split()): row or {} for name, row in rows.items()}


def _read_search(search: Any, objectives: Mapping[str, Direction], where: str) -> tuple[int, dict[str, Any]]:
    """Return the number of trials, and sampler, pruner and space."""
    _check_keys(search if isinstance(search, dict) else (), _SEARCH_KEYS, where)
    if not isinstance(search, dict) or not isinstance(search.get("space"), dict) or not search["space"]:
        raise UserError(f"{where}: give a space, such as {{model.optim.lr: {_RANGE_EXAMPLE}}}.")
    n_trials, pruner = search.get("n_trials", 20), search.get("pruner", "none")
    if type(n_trials) is not int or n_trials < 1:
        raise UserError(f"{where}: n_trials {n_trials!r}: allowed are whole numbers from 1.")
    for key, allowed in (("sampler", _SAMPLERS), ("pruner", _PRUNERS)):
        if search.get(key, allowed[0]) not in allowed:
            raise UserError(f"{where}: {key} {short(search[key])}: allowed are {', '.join(allowed)}.")
    for flag, values in search["space"].items():
        _check_range(flag, values, f"{where}: space")
    first, *others = objectives
    reason = ""
    if pruner != "none" and others:
        reason = f"needs one objective, not several ({', '.join(objectives)}); give pruner none, or one objective"
    elif pruner != "none" and first not in MONITORS:
        reason = f"{first} does not change from epoch to epoch; give pruner none, or one of {', '.join(MONITORS)}"
    if reason:
        raise UserError(f"{where}: pruner {pruner}: {reason}.")
    return n_trials, {"sampler": search.get("sampler", ""), "pruner": pruner, "space": search["space"]}


def _check_range(flag: Any, values: Any, section: str) -> None:
    """Raise `UserError` for anything but a list of choices or a range."""
    where = f"{section}: {flag} {short(values)}"
    if isinstance(values, list):
        _check_choices(flag, values, section)
        if not all(isinstance(value, bool | int | float | str | None) for value in values):
            raise UserError(f"{where}: allowed in a list of choices are numbers, text, true, false and null.")
        return
    _check_flag(flag, values, section)
    if not isinstance(values, dict) or not {"low", "high"} <= set(values) <= {"low", "high", "log", "step"}:
        raise UserError(f"{where}: allowed are a list of choices, or a range such as {_RANGE_EXAMPLE}.")
    low, high, step, log = values["low"], values["high"], values.get("step", 1), values.get("log", False)
    if not all(type(number) in (int, float) and isfinite(number) for number in (low, high, step)):
        hint = " (YAML reads 1e-3 as text: write 1.0e-3)" if str in (type(low), type(high), type(step)) else ""
        raise UserError(f"{where}: low, high and step are finite numbers{hint}.")
    if type(log) is not bool:
        raise UserError(f"{where}: log is true or false.")
    if low >= high or step <= 0 or (log and low <= 0):
        raise UserError(f"{where}: low must be below high, and step above 0; with log, low above 0.")
    if log and "step" in values:
        raise UserError(f"{where}: log has no step; leave one of the two out.")


def read_objectives(objective: Any, where: str) -> dict[str, Direction]:
    """Read one metric, a list of them, or a mapping of them to `min` and `max`; raises `UserError` for all else."""
    named, allowed = [objective] if isinstance(objective, str) else objective, f"allowed are {', '.join(_DIRECTIONS)}"
    if isinstance(named, list) and all(isinstance(name, str) for name in named):
        if len(set(named)) < len(named):
            raise UserError(f"{where}: objective {short(named)}: one appears twice; keep one.")
        named = {name: _DIRECTIONS.get(name, "max") for name in named}
    if not isinstance(named, dict) or not named:
        raise UserError(f"{where}: objective {short(objective)}: {allowed}, or a list of them.")
    for name, direction in named.items():
        if name not in _DIRECTIONS:
            raise UserError(f"{where}: objective {name}{did_you_mean(str(name), _DIRECTIONS)}: {allowed}.")
        if direction not in ("min", "max"):
            raise UserError(f"{where}: objective {name} {short(direction)}: allowed are min and max.")
    return dict(named)


def _check_keys(section: Iterable[Any], allowed: Sequence[str], where: str) -> None:
    for key in section:
        if key not in allowed:
            hint = did_you_mean(str(key), allowed)
            raise UserError(f"{where}: {key}: no such key{hint}; allowed are {', '.join(allowed)}.")


def _check_choices(flag: Any, values: Any, where: str) -> None:
    """Raise `UserError` where the choices of a flag are no list of different values."""
    _check_flag(flag, values, where)
    if not isinstance(values, list) or not values:
        raise UserError(f"{where}: {flag} {short(values)}: allowed is a list of values.")
    if len({written(value) for value in values}) < len(values):
        raise UserError(f"{where}: {flag} {short(values)}: a value appears twice; keep one.")


def _check_flag(flag: Any, value: Any, where: str) -> None:
    """Raise `UserError` for a section where a flag should be, and a value that can't be written on a command line."""
    if flag in SECTIONS and isinstance(value, Mapping) and value:
        inner, choice = next(flat(value, f"{flag}."))
        raise UserError(f"{where}: {flag} is a section; write {inner}: {short(choice)} in one line.")
    if flag in SECTIONS:
        raise UserError(f"{where}: {no_section(flag, short(value))}.")
    if not isinstance(flag, str):
        raise UserError(f"{where}: {flag!r}: allowed are flags of fit, such as model.design.patch_size.")
    try:
        json.dumps(value)
    except TypeError as error:
        raise UserError(f"{where}: {flag} {value}: YAML reads this as no number or text; put it in quotes.") from error


def examples(space: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return every choice of a space alone, all of a short range of whole numbers, and the ends of other ranges."""
    tried: dict[str, list[Any]] = {}
    for flag, values in space.items():
        if isinstance(values, list):
            tried[flag] = values
            continue
        low, high, step = values["low"], values["high"], values.get("step", 1)
        whole = all(type(number) is int for number in (low, high, step))
        numbers = list(range(low, high + 1, step)) if whole else []
        tried[flag] = numbers if 0 < len(numbers) <= _MOST_TRIED else [low, high]
    first = {flag: values[0] for flag, values in tried.items()}
    return [{**first, flag: value} for flag, values in tried.items() for value in values]
