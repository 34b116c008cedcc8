"""The sweep file: which configs of `fit`, which choices, which seeds, and what is compared."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from math import isfinite
from pathlib import Path
from reprlib import repr as short
from typing import TYPE_CHECKING, Any

from shvit_pl.command_line.config_files import find_config, flat, read_config
from shvit_pl.command_line.parser import SECTIONS, no_section
from shvit_pl.errors import UserError, did_you_mean
from shvit_pl.runs.metrics import MONITORS, better
from shvit_pl.sweep.plan.definition import COSTS, Definition, Direction, Kind, digest, short_names, written

if TYPE_CHECKING:
    from shvit_pl.fit.check import FitCheck  # torch

KINDS: tuple[Kind, ...] = ("grid", "list", "search")
_KEYS = ("base", *KINDS, "seeds", "objective")
_SEARCH_KEYS = ("n_trials", "sampler", "pruner", "space")
IN_FILE = {*_KEYS, "seed", *_SEARCH_KEYS}  # what is no flag
_DIRECTIONS: dict[str, Direction] = {name: better(name) for name in MONITORS} | COSTS
_SAMPLERS = ("tpe", "nsga2", "random")
_PRUNERS = ("none", "median", "halving")
_RANGE_KEYS = ("low", "high", "log", "step")
_SHIPPED = "cli_configs/sweeps/macro.yaml"
_GRID_EXAMPLE = "{model.design.patch_size: [4, 16]}"
_LIST_EXAMPLE = "{small: {model.design.name: tiny}}"
_RANGE_EXAMPLE = "{low: 1.0e-4, high: 1.0e-2, log: true}"
_VALUE_LENGTH = 40  # characters of a value in a cell's name
_MOST_TRIED = 16  # numbers in a range of whole ones, all of which are opened before the first run


@dataclass(frozen=True)
class Search:
    """Ranges to search."""

    n_trials: int
    sampler: str
    """tpe, nsga2 or random; empty for tpe for one objective, nsga2 for several."""
    pruner: str
    """none, median or halving (successive halving), on the objective after each epoch."""
    space: dict[str, Any]
    """For each flag a list of choices, or a range `{low, high, log, step}`."""

    def examples(self) -> list[dict[str, Any]]:
        """Return every choice alone, every number of a short range of whole ones, and the ends of all other ranges."""
        tried = {flag: values if isinstance(values, list) else _tried(**values) for flag, values in self.space.items()}
        first = {flag: values[0] for flag, values in tried.items()}
        return [{**first, flag: value} for flag, values in tried.items() for value in values]


def _tried(low: Any, high: Any, log: bool = False, step: Any = None) -> list[Any]:
    whole = all(type(number) is int for number in (low, high, step or 1))
    numbers = range(low, high + 1, step or 1) if whole else ()
    return list(numbers) if 0 < len(numbers) <= _MOST_TRIED else [low, high]


@dataclass(frozen=True)
class SweepFile:
    """A sweep file whose shape is checked; its flags and values are checked against `fit` later."""

    path: Path
    base: tuple[str, ...]
    """Configs of `fit`, found, in the order of layering."""
    grid: dict[str, list[Any]] | None
    """Flags and the values whose product is taken."""
    rows: dict[str, dict[str, Any]] | None
    """Named rows of flags, of `list`."""
    search: Search | None
    seeds: tuple[int, ...]
    """One run of every cell for each."""
    objectives: dict[str, Direction]
    """Metrics and their directions."""

    @property
    def varied(self) -> list[str]:
        """The flags that the sweep chooses, of a list once per row."""
        rows = [self.grid or {}, *(self.rows or {}).values(), self.search.space if self.search else {}]
        return [flag for row in rows for flag in row]

    @property
    def cells(self) -> dict[str, dict[str, Any]]:
        """The cells by name, in the file's order; a search's are its trials, whose choices are not known yet."""
        if self.search is not None:
            return {f"trial {number}": {} for number in range(1, self.search.n_trials + 1)}
        if self.rows is not None:
            return dict(self.rows)
        grid = self.grid or {}
        names, cells = short_names(grid), dict[str, dict[str, Any]]()
        for values in product(*grid.values()):
            row = dict(zip(grid, values, strict=True))
            name = ", ".join(f"{names[flag]} {_in_name(value)}" for flag, value in row.items())
            cells[name if name not in cells else f"{name} ({digest(str(row))})"] = row
        return cells


def _in_name(value: Any) -> str:
    """Return a value for a cell's name: a long one by its end, and by what no other value has."""
    text = " ".join(written(value).split())
    if isinstance(value, list):
        text = text.replace('"', "")
    return text if len(text) <= _VALUE_LENGTH else f"...{text[-30:]} ({digest(text)})"


def pick_sweep_file(configs: Sequence[str]) -> tuple[str, list[str]]:
    """Return the path of the one sweep file among `--config`, and the others, which are layered on its base."""
    contents = {config: read_config(find_config(config)) for config in configs}
    sweeps = [config for config, content in contents.items() if _is_sweep(content)]
    if len(sweeps) == 1:
        return find_config(sweeps[0]), [config for config in contents if config != sweeps[0]]
    flag = f"--config {', '.join(map(repr, configs))}".strip()
    if sweeps:
        raise UserError(f"{flag}: {len(sweeps)} of these are sweep files; give one, and configs of fit beside it.")
    record = next((str(content["command"]) for content in contents.values() if "definition" in content), None)
    if record is not None:
        raise UserError(f"{flag}: the record of a sweep, not a sweep file; it was started by: {record}")
    keys = (str(key) for content in contents.values() for key in content)
    hint = next(filter(None, (did_you_mean(key, KINDS) for key in keys)), "")
    raise UserError(f"{flag}: no sweep file, which has grid, list or search{hint}; give one, such as {_SHIPPED}.")


def _is_sweep(content: dict[Any, Any]) -> bool:
    return any(key in content for key in _KEYS)


def read_sweep_file(path: str) -> SweepFile:
    """Read a sweep file; raises `UserError` for keys that it can't have, and values that make no sweep."""
    content, where = read_config(path), f"--config {path!r}"
    _check_keys(content, _KEYS, where)
    kinds = [kind for kind in KINDS if kind in content]
    if len(kinds) != 1:
        raise UserError(f"{where}: give one of grid, list and search; it has {' and '.join(kinds) or 'none of them'}.")
    search = read_search(content["search"], where) if kinds == ["search"] else None
    objectives = read_objectives(content.get("objective", "val/acc1"), where)
    if search is not None:
        _check_pruner(search.pruner, objectives, where)
    return SweepFile(
        Path(path),
        _base(content.get("base", []), Path(path), f"{where}: base"),
        _grid(content["grid"], f"{where}: grid") if kinds == ["grid"] else None,
        _rows(content["list"], f"{where}: list") if kinds == ["list"] else None,
        search,
        _seeds(content.get("seeds", [0]), where, single=search is not None),
        objectives,
    )


def read_objectives(objective: Any, where: str) -> dict[str, Direction]:
    """Read one metric, a list of them, or a mapping of them to `min` and `max`; raises `UserError` for all else."""
    named, allowed = [objective] if isinstance(objective, str) else objective, f"allowed are {', '.join(_DIRECTIONS)}"
    if isinstance(named, list) and all(isinstance(name, str) for name in named):
        if len(set(named)) < len(named):
            raise UserError(f"{where}: objective {short(named)}: one is there twice; keep one.")
        named = {name: _DIRECTIONS.get(name, "max") for name in named}
    if not isinstance(named, dict) or not named:
        raise UserError(f"{where}: objective {short(objective)}: {allowed}, or a list of them.")
    for name, direction in named.items():
        if name not in _DIRECTIONS:
            raise UserError(f"{where}: objective {name}{did_you_mean(str(name), _DIRECTIONS)}: {allowed}.")
        if direction not in ("min", "max"):
            raise UserError(f"{where}: objective {name} {short(direction)}: allowed are min and max.")
    return dict(named)


def read_search(search: Any, where: str) -> Search:
    """Read the section `search`; raises `UserError` for what Optuna could not search."""
    where = f"{where}: search"
    _check_keys(search if isinstance(search, dict) else (), _SEARCH_KEYS, where)
    if not isinstance(search, dict) or not isinstance(search.get("space"), dict) or not search["space"]:
        raise UserError(f"{where}: give a space, such as {{model.optim.lr: {_RANGE_EXAMPLE}}}.")
    n_trials = search.get("n_trials", 20)
    if type(n_trials) is not int or n_trials < 1:
        raise UserError(f"{where}: n_trials {n_trials!r}: allowed are whole numbers from 1.")
    for key, allowed in (("sampler", _SAMPLERS), ("pruner", _PRUNERS)):
        if search.get(key, allowed[0]) not in allowed:
            raise UserError(f"{where}: {key} {short(search[key])}: allowed are {', '.join(allowed)}.")
    for flag, values in search["space"].items():
        _check_range(flag, values, f"{where}: space")
    return Search(n_trials, search.get("sampler", ""), search.get("pruner", "none"), search["space"])


def _check_range(flag: Any, values: Any, section: str) -> None:
    """Raise `UserError` for what is neither a list of choices nor a range."""
    where = f"{section}: {flag} {short(values)}"
    if isinstance(values, list):
        _check_choices(flag, values, section)
        if not all(isinstance(value, bool | int | float | str | None) for value in values):
            raise UserError(f"{where}: allowed in a list of choices are numbers, text, true, false and null.")
        return
    _check_flag(flag, values, section)
    if not isinstance(values, dict) or not {"low", "high"} <= set(values) <= set(_RANGE_KEYS):
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


def _check_pruner(pruner: str, objectives: Mapping[str, Direction], where: str) -> None:
    """Raise `UserError` where a pruner has no single metric to follow from epoch to epoch."""
    if pruner == "none":
        return
    first = next(iter(objectives))
    if len(objectives) > 1:
        raise UserError(
            f"{where}: search: pruner {pruner}: with several objectives ({', '.join(objectives)}) no trial is worse "
            "before its end; give pruner none, or one objective."
        )
    if first not in MONITORS:
        raise UserError(
            f"{where}: search: pruner {pruner}: {first} does not change from epoch to epoch; give pruner none, or one "
            f"of {', '.join(MONITORS)}."
        )


def _base(base: Any, path: Path, where: str) -> tuple[str, ...]:
    """Return the base's configs: from the working directory, or beside the sweep file, or shipped."""
    names = [base] if isinstance(base, str) else base
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UserError(f"{where} {short(base)}: allowed is a config of fit, or a list of them.")
    return tuple(_found(name, path, where) for name in names)


def _found(name: str, path: Path, where: str) -> str:
    """Return a config's path; a shipped one keeps its name, so that a command can be repeated on another machine."""
    config = find_config(name, near=path.parent, flag=where)
    if _is_sweep(read_config(config)):
        raise UserError(f"{where} {name!r}: a sweep file; allowed is a config of fit, or a list of them.")
    return config if config in (name, str(path.parent / name)) else name


def _grid(grid: Any, where: str) -> dict[str, list[Any]]:
    if not isinstance(grid, dict) or not grid:
        raise UserError(f"{where} is empty; give flags and their values, such as {_GRID_EXAMPLE}.")
    for flag, values in grid.items():
        _check_choices(flag, values, where)
    return grid


def _rows(rows: Any, where: str) -> dict[str, dict[str, Any]]:
    if not isinstance(rows, dict) or not rows:
        raise UserError(f"{where} is empty; give rows by name, such as {_LIST_EXAMPLE}.")
    for name, row in rows.items():
        if row is not None and not isinstance(row, dict):
            raise UserError(f"{where}: {name}: {short(row)}: allowed are flags and their values.")
        for flag, value in (row or {}).items():
            _check_flag(flag, value, f"{where}: {name}")
    return {" ".join(str(name).split()): row or {} for name, row in rows.items()}


def _seeds(seeds: Any, where: str, single: bool) -> tuple[int, ...]:
    where = f"{where}: seeds {short(seeds)}"
    good = isinstance(seeds, list) and seeds and all(type(seed) is int and 0 <= seed < 2**32 for seed in seeds)
    if not good or len(set(seeds)) < len(seeds):
        raise UserError(f"{where}: allowed is a list of different whole numbers from 0.")
    if single and len(seeds) > 1:
        raise UserError(
            f"{where}: a search trains each trial once; give one seed, and repeat the best trials over seeds by a list."
        )
    return tuple(seeds)


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
        raise UserError(f"{where}: {flag} {short(values)}: a value is there twice; keep one.")


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


def define(file: SweepFile, base: Sequence[str], fit: FitCheck) -> Definition:
    """Return what a sweep file means with these flags of `fit`; raises `UserError` for flags that `fit` refuses."""
    settings = fit.settings(base)
    _check_keeps_a_run(fit.trainer)
    varied = {"seed_everything", "monitor", *file.varied}
    fixed = {name: value for name, value in settings.items() if not _is_within(name, varied)}
    search = {key: value for key, value in asdict(file.search).items() if key != "n_trials"} if file.search else None
    kind = next(kind for kind, part in zip(KINDS, (file.grid, file.rows, file.search), strict=True) if part)
    return Definition(kind, _plain(file.cells), file.seeds, dict(file.objectives), _plain(fixed), _plain(search))


def _check_keeps_a_run(trainer: Any) -> None:
    """Raise `UserError` where runs would leave nothing behind for the sweep to read."""
    if trainer.fast_dev_run or trainer.logger is False:
        name, value = ("fast_dev_run", trainer.fast_dev_run) if trainer.fast_dev_run else ("logger", False)
        raise UserError(f"trainer.{name} {value}: a run of a sweep keeps its run folder; leave it out of base.")


def _is_within(name: str, varied: Iterable[str]) -> bool:
    """Return whether a setting is varied, by itself or with its section."""
    return any(name == flag or name.startswith(f"{flag}.") for flag in varied)


def _plain(value: Any) -> Any:
    """Return a value as it comes back from the study."""
    return json.loads(json.dumps(value, default=str))
