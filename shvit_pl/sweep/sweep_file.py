"""The sweep file: which configs of `fit`, which choices, which seeds, and what is compared."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import product
from math import isfinite
from pathlib import Path
from reprlib import repr as short
from typing import Any

import yaml
from optuna.distributions import CategoricalDistribution

from shvit_pl.command_line.config_files import find_config, flat, read_config
from shvit_pl.command_line.parser import SECTIONS, no_section
from shvit_pl.errors import UserError, collected, did_you_mean
from shvit_pl.runs.folder import AT_END, EMA, MONITORS, better
from shvit_pl.sweep.definition import COSTS, Direction, Kind, digest, short_names, written
from shvit_pl.sweep.engine.study import PRUNERS, SAMPLERS
from shvit_pl.sweep.space import count_points, distribution, whole_numbers

KINDS: tuple[Kind, ...] = ("grid", "list", "search")
_KEYS = ("base", *KINDS, "seeds", "folds", "objective")
_SEARCH_KEYS = ("n_trials", "sampler", "pruner", "space")
IN_FILE = {*_KEYS, "seed", *_SEARCH_KEYS}  # keys of a sweep file, which are no flags
_DIRECTIONS: dict[str, Direction] = {name: better(name) for name in (*MONITORS, *AT_END)} | COSTS
_SHIPPED = "cli_configs/sweeps/macro.yaml"
_RANGE_EXAMPLE = "{low: 1.0e-4, high: 1.0e-2, log: true}"
_VALUE_LENGTH = 40  # characters of a value in a cell's name
_MOST_TRIED = 16  # numbers in a range of whole ones, all of which are opened before the first run


@dataclass(frozen=True)
class SweepFile:
    """A sweep file whose shape is checked; its flags and values are checked against `fit` later."""

    path: Path = Path()
    base: tuple[str, ...] = ()
    """Configs of `fit`, found, in the order of layering."""
    kind: Kind = "grid"
    cells: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Flags and values by the cell's name, in the file's order; none for the trials of a search, which are no more than
    its space has points."""
    search: dict[str, Any] | None = None
    """Sampler (empty: tpe for one objective, nsga2 for several), pruner, and the space: for each flag a list of
    choices, or a range `{low, high, log, step}`."""
    seeds: tuple[int, ...] = (0,)
    """One run of every cell for each."""
    objectives: dict[str, Direction] = field(default_factory=lambda: {"val/acc1": "max"})
    n_trials: int | None = None
    """Trials that a search asks for."""
    folds: int = 0
    """Folds of a cross-validation, each of which every cell and seed runs in; 0 for none."""

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
        raise UserError(f"{flag}: the record of a sweep, not a sweep file; its command was: {record}")
    keys = (str(key) for content in contents.values() for key in content)
    hint = next(filter(None, (did_you_mean(key, KINDS) for key in keys)), "")
    raise UserError(f"{flag}: no sweep file (with grid, list or search{hint}); give one, such as {_SHIPPED}.")


def read_sweep_file(path: str) -> tuple[SweepFile, list[str]]:
    """Return what is right in a sweep file, and a message for each mistake in it."""
    content = read_config(path)
    mistakes, kinds = [*_unknown_keys(content, _KEYS)], [kind for kind in KINDS if kind in content]
    objectives = read_objectives(content.get("objective", "val/acc1"), mistakes)
    cells: dict[str, dict[str, Any]] = {}
    n_trials, search, section = None, None, content[kinds[0]] if kinds else None
    if len(kinds) != 1:
        mistakes.append(f"give one of grid, list and search; there is {' and '.join(kinds) or 'none'}.")
    elif kinds == ["grid"]:
        cells = _read_grid(section, mistakes)
    elif kinds == ["list"]:
        cells = _read_list(section, mistakes)
    else:
        n_trials, search = _read_search(section, objectives, mistakes)
        points = count_points(search["space"]) if search["space"] else None
        cells = {f"trial {number}": {} for number in range(1, min(n_trials, points or n_trials) + 1)}
    seeds = content.get("seeds", [0])
    good = isinstance(seeds, list) and seeds and all(type(seed) is int and 0 <= seed < 2**32 for seed in seeds)
    if not good or len(set(seeds)) < len(seeds):
        mistakes.append(f"seeds {short(seeds)}: allowed is a list of different whole numbers from 0.")
        seeds = [0]
    elif "search" in kinds and len(seeds) > 1:
        mistakes.append(f"seeds {short(seeds)}: a search has one seed; repeat the best trials with several in a list.")
    folds = content.get("folds", 0)
    if "folds" in content and (type(folds) is not int or folds < 2):
        mistakes.append(f"folds {short(folds)}: allowed are whole numbers from 2, such as 5; leave it out for none.")
        folds = 0
    elif folds and "search" in kinds:
        mistakes.append(f"folds {folds}: a search runs each trial once; repeat the best trials with folds in a list.")
    base = tuple(_read_base(content.get("base", []), Path(path), mistakes))
    file = SweepFile(Path(path), base, (kinds or KINDS)[0], cells, search, tuple(seeds), objectives, n_trials, folds)
    return file, [f"--config {path!r}: {mistake}" for mistake in mistakes]


def _read_base(base: Any, path: Path, mistakes: list[str]) -> Iterator[str]:
    """Yield the base's configs: from here, beside the sweep file, or shipped (by name, for use on other machines)."""
    names = [base] if isinstance(base, str) else base
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        mistakes.append(f"base {short(base)}: allowed is a config of fit, or a list of them.")
        return
    for name in names:
        with collected(mistakes):
            config = find_config(name, near=path.parent, flag="base")
            if read_config(config, "base").keys().isdisjoint(_KEYS):
                yield config if config in (name, str(path.parent / name)) else name
            else:
                mistakes.append(f"base {name!r}: a sweep file; allowed is a config of fit, or a list of them.")


def _read_grid(grid: Any, mistakes: list[str]) -> dict[str, dict[str, Any]]:
    """Return every combination of a grid's values, named by the flags' short names and the values."""
    if not isinstance(grid, dict) or not grid:
        mistakes.append("grid is empty; give flags and their values, such as {model.design.patch_size: [4, 16]}.")
        return {}
    grid = _valid_flags(grid, "grid", mistakes, _choice_mistakes)
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


def _read_list(rows: Any, mistakes: list[str]) -> dict[str, dict[str, Any]]:
    if not isinstance(rows, dict) or not rows:
        mistakes.append("list is empty; give rows by name, such as {small: {model.design.name: tiny}}.")
        return {}
    cells: dict[str, dict[str, Any]] = {}
    equal: dict[frozenset[tuple[Any, str]], str] = {}
    for key, row in rows.items():
        name = " ".join(str(key).split())
        if not isinstance(row, dict | None):
            mistakes.append(f"list: {name}: {short(row)}: allowed are flags and their values.")
            continue
        if name in cells:
            mistakes.append(f"list: {name}: two rows have this name; rename one.")
        cells[name] = _valid_flags(row or {}, f"list: {name}", mistakes)
        same = equal.setdefault(frozenset((flag, _as_read(value)) for flag, value in (row or {}).items()), name)
        if same != name:
            mistakes.append(f"list: {name}: has the flags of {same}; change one of them, or repeat runs by seeds.")
    return cells


def _read_search(search: Any, objectives: Mapping[str, Direction], mistakes: list[str]) -> tuple[int, dict[str, Any]]:
    """Return the number of trials, and sampler, pruner and space."""
    keys = search if isinstance(search, dict) else {}
    mistakes += (f"search: {mistake}" for mistake in _unknown_keys(keys, _SEARCH_KEYS))
    n_trials, pruner, space = keys.get("n_trials", 20), keys.get("pruner", "none"), keys.get("space")
    if not isinstance(space, dict) or not space:
        mistakes.append(f"search: give a space, such as {{model.optim.lr: {_RANGE_EXAMPLE}}}.")
        space = {}
    if type(n_trials) is not int or n_trials < 1:
        mistakes.append(f"search: n_trials {n_trials!r}: allowed are whole numbers from 1.")
        n_trials = 1
    for key, allowed in (("sampler", [*SAMPLERS]), ("pruner", [*PRUNERS])):
        if keys.get(key, allowed[0]) not in allowed:
            mistakes.append(f"search: {key} {short(keys[key])}: allowed are {', '.join(allowed)}.")
    first, *others = objectives
    if pruner in [*PRUNERS][1:] and (others or first not in MONITORS):
        reason = f"allowed for one objective of {_names(MONITORS)}, not for {', '.join(objectives)}"
        mistakes.append(f"search: pruner {pruner}: {reason}; give pruner none, or another objective.")
    space = _valid_flags(space, "search: space", mistakes, _range_mistakes)
    return n_trials, {"sampler": keys.get("sampler", ""), "pruner": pruner, "space": space}


def _valid_flags(
    section: Mapping[Any, Any],
    where: str,
    mistakes: list[str],
    check: Callable[[Any], Iterable[str]] = lambda _: (),
) -> dict[str, Any]:
    """Return the flags of a section that are right by themselves and by a check of their values."""
    right = dict[str, Any]()
    for flag, value in section.items():
        wrong = [*_flag_mistakes(flag, value)] or [f"{flag} {short(value)}: {mistake}." for mistake in check(value)]
        mistakes += (f"{where}: {mistake}" for mistake in wrong)
        right |= {} if wrong else {flag: value}
    return right


def _flag_mistakes(flag: Any, value: Any) -> Iterator[str]:
    """Yield a message where a section is given, not a flag, or a value that can't be written on a command line."""
    if flag in SECTIONS and isinstance(value, Mapping) and value:
        inner, choice = next(flat(value, f"{flag}."))
        yield f"{flag} is a section; write {inner}: {short(choice)} in one line."
    elif flag in SECTIONS:
        yield f"{no_section(flag, short(value))}."
    elif not isinstance(flag, str):
        yield f"{flag!r}: allowed are flags of fit, such as model.design.patch_size."
    else:
        try:
            json.dumps(value)
        except TypeError:
            yield f"{flag} {value}: neither a number nor text in YAML; put it in quotes."


def _choice_mistakes(values: Any) -> Iterator[str]:
    if not isinstance(values, list) or not values:
        yield "allowed is a list of values"
    elif len({_as_read(value) for value in values}) < len(values):
        yield "a value appears twice; keep one"


def _as_read(value: Any) -> str:
    """Return a value as `fit` reads it from its command line, where the text 1e-3 is a number too."""
    text = written(value)
    with suppress(yaml.YAMLError):
        read = yaml.safe_load(text)
        with suppress(ValueError):
            return repr(float(read) if isinstance(read, str) else read)
    return text


def _range_mistakes(values: Any) -> Iterator[str]:
    """Yield a message for each mistake in a list of choices or a range."""
    if isinstance(values, list):
        yield from _choice_mistakes(values)
        if not all(isinstance(value, bool | int | float | str | None) for value in values):
            yield "allowed in a list of choices are numbers, text, true, false and null"
        elif len(set(values)) < len({_as_read(value) for value in values}):
            yield "two values are equal to Optuna, as 1, 1.0 and true are; keep one, or use a grid"
        return
    if not isinstance(values, dict) or not {"low", "high"} <= set(values) <= {"low", "high", "log", "step"}:
        yield f"allowed are a list of choices, or a range such as {_RANGE_EXAMPLE}"
        return
    low, high, step, log = values["low"], values["high"], values.get("step", 1), values.get("log", False)
    if not all(type(number) in (int, float) and isfinite(number) for number in (low, high, step)):
        hint = " (YAML reads 1e-3 as text: write 1.0e-3)" if str in (type(low), type(high), type(step)) else ""
        yield f"low, high and step must be finite numbers{hint}"
    elif low >= high or step <= 0 or (log is True and low <= 0):
        yield "low must be below high, and step above 0; with log, low above 0"
    if type(log) is not bool:
        yield "log must be true or false"
    elif log and "step" in values:
        yield "log and step can't be combined; leave one of them out"


def read_objectives(objective: Any, mistakes: list[str]) -> dict[str, Direction]:
    """Read one metric, a list of them, or a mapping of them to `min` and `max`; `val/acc1` where none is right."""
    named, allowed = [objective] if isinstance(objective, str) else objective, f"allowed are {_names(_DIRECTIONS)}"
    if isinstance(named, list) and all(isinstance(name, str) for name in named):
        if len(set(named)) < len(named):
            mistakes.append(f"objective {short(named)}: one appears twice; keep one.")
        named = {name: _DIRECTIONS.get(name, "max") for name in named}
    if not isinstance(named, dict) or not named:
        mistakes.append(f"objective {short(objective)}: {allowed}, or a list of them.")
        named = {}
    for name, direction in named.items():
        if name not in _DIRECTIONS:
            mistakes.append(f"objective {name}{did_you_mean(str(name), _DIRECTIONS)}: {allowed}.")
        if direction not in ("min", "max"):
            mistakes.append(f"objective {name} {short(direction)}: allowed are min and max.")
    right = {name: way for name, way in named.items() if name in _DIRECTIONS and way in ("min", "max")}
    return right or {"val/acc1": "max"}


def _names(metrics: Iterable[str]) -> str:
    """List metrics, those of the averaged weights by their ending alone."""
    shown = ", ".join(name for name in metrics if not name.endswith(EMA))
    return f"{shown} (metrics also with {EMA})"


def _unknown_keys(section: Iterable[Any], allowed: Sequence[str]) -> Iterator[str]:
    for key in section:
        if key not in allowed:
            yield f"{key}: no such key{did_you_mean(str(key), allowed)}; allowed are {', '.join(allowed)}."


def examples(space: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return every choice of a space alone, all of a short range of whole numbers, and the ends of other ranges."""
    tried: dict[str, list[Any]] = {}
    for flag, values in space.items():
        choices = distribution(values)
        if isinstance(choices, CategoricalDistribution):
            tried[flag] = list(choices.choices)
        else:
            numbers = whole_numbers(choices)
            tried[flag] = list(numbers) if 0 < len(numbers) <= _MOST_TRIED else [choices.low, choices.high]
    first = {flag: values[0] for flag, values in tried.items()}
    return [{**first, flag: value} for flag, values in tried.items() for value in values]
