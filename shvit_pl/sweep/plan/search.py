"""Searching ranges: Optuna's samplers and pruners, as a sweep file names them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from reprlib import repr as short
from typing import TYPE_CHECKING, Any

from shvit_pl.errors import UserError
from shvit_pl.runs.metrics import MONITORS
from shvit_pl.sweep.plan.flags import check_choices, check_flag, check_keys
from shvit_pl.sweep.plan.objectives import Direction

if TYPE_CHECKING:
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler
    from optuna.trial import Trial

SEARCH_KEYS = ("n_trials", "sampler", "pruner", "space")
_SAMPLERS = ("tpe", "nsga2", "random")
_PRUNERS = ("none", "median", "halving")
_SHORT = 16  # numbers in a range of whole ones, all of which are tried before the first run
_EXAMPLE = "{low: 1.0e-4, high: 1.0e-2, log: true}"
_RANGE = ("low", "high", "log", "step")


@dataclass(frozen=True)
class Search:
    """Ranges to search.

    Attributes:
        n_trials: How many trials in all.
        sampler: tpe, nsga2 or random (default: tpe for one objective, nsga2 for several).
        pruner: none, median or halving (successive halving), on the objective after each epoch.
        space: Flags, and for each a list of choices or a range `{low, high, log, step}`.
    """

    n_trials: int
    sampler: str
    pruner: str
    space: dict[str, Any]

    def check_objectives(self, objectives: Mapping[str, Direction], path: str) -> None:
        """Raise `UserError` where a pruner has no single metric to follow from epoch to epoch."""
        if self.pruner == "none":
            return
        if len(objectives) > 1:
            raise UserError(
                f"--config {path!r}: search: pruner {self.pruner}: with several objectives ({', '.join(objectives)}) "
                "no trial is worse before its end; give pruner none, or one objective."
            )
        if next(iter(objectives)) not in MONITORS:
            raise UserError(
                f"--config {path!r}: search: pruner {self.pruner}: {next(iter(objectives))} does not change from epoch "
                f"to epoch; give pruner none, or one of {', '.join(MONITORS)}."
            )

    def examples(self) -> list[dict[str, Any]]:
        """Every choice alone, every number of a short range of whole ones, and the ends of all other ranges."""
        tried = {flag: values if isinstance(values, list) else _tried(**values) for flag, values in self.space.items()}
        first = {flag: values[0] for flag, values in tried.items()}
        return [{**first, flag: value} for flag, values in tried.items() for value in values]


def _tried(low: Any, high: Any, log: bool = False, step: Any = None) -> list[Any]:
    whole = all(type(number) is int for number in (low, high, step or 1))
    numbers = range(low, high + 1, step or 1) if whole else ()
    return list(numbers) if 0 < len(numbers) <= _SHORT else [low, high]


def read_search(search: Any, path: str) -> Search:
    """Read the section `search`; raises `UserError` for what Optuna could not search."""
    check_keys(search if isinstance(search, dict) else (), SEARCH_KEYS, f"--config {path!r}: search")
    if not isinstance(search, dict) or not isinstance(search.get("space"), dict) or not search["space"]:
        raise UserError(f"--config {path!r}: search: give a space, such as {{model.optim.lr: {_EXAMPLE}}}.")
    n_trials = search.get("n_trials", 20)
    if type(n_trials) is not int or n_trials < 1:
        raise UserError(f"--config {path!r}: search: n_trials {n_trials!r}: allowed are whole numbers from 1.")
    for key, allowed in (("sampler", _SAMPLERS), ("pruner", _PRUNERS)):
        if search.get(key, allowed[0]) not in allowed:
            raise UserError(f"--config {path!r}: search: {key} {short(search[key])}: allowed are {', '.join(allowed)}.")
    for flag, values in search["space"].items():
        _check_values(flag, values, path)
    return Search(n_trials, search.get("sampler", ""), search.get("pruner", "none"), search["space"])


def _check_values(flag: Any, values: Any, path: str) -> None:
    said = f"--config {path!r}: search: space"
    where = f"{said}: {flag} {short(values)}"
    if isinstance(values, list):
        check_choices(flag, values, said)
        if not all(isinstance(value, bool | int | float | str | None) for value in values):
            raise UserError(f"{where}: allowed in a list of choices are numbers, text, true, false and null.")
        return
    check_flag(flag, values, said)
    if not isinstance(values, dict) or not {"low", "high"} <= set(values) <= set(_RANGE):
        raise UserError(f"{where}: allowed are a list of choices, or a range such as {_EXAMPLE}.")
    _check_range(values["low"], values["high"], values.get("step", 1), values.get("log", False), where)
    if values.get("log") and "step" in values:
        raise UserError(f"{where}: log has no step; leave one of the two out.")


def _check_range(low: Any, high: Any, step: Any, log: Any, where: str) -> None:
    if not all(type(number) in (int, float) and isfinite(number) for number in (low, high, step)):
        hint = " (YAML reads 1e-3 as text: write 1.0e-3)" if str in (type(low), type(high), type(step)) else ""
        raise UserError(f"{where}: low, high and step are finite numbers{hint}.")
    if type(log) is not bool:
        raise UserError(f"{where}: log is true or false.")
    if low >= high or step <= 0 or (log and low <= 0):
        raise UserError(f"{where}: low must be below high, and step above 0; with log, low above 0.")


def suggest(trial: Trial, space: Mapping[str, Any]) -> dict[str, Any]:
    """What the sampler proposes for each flag: a whole number where both ends of its range are."""
    chosen: dict[str, Any] = {}
    for flag, values in space.items():
        if isinstance(values, list):
            chosen[flag] = trial.suggest_categorical(flag, values)
            continue
        low, high, step, log = values["low"], values["high"], values.get("step"), values.get("log", False)
        if all(type(number) is int for number in (low, high, step or 1)):
            chosen[flag] = trial.suggest_int(flag, low, high, step=step or 1, log=log)
        else:
            chosen[flag] = trial.suggest_float(flag, low, high, step=step, log=log)
    return chosen


def make_sampler(name: str, objectives: int, seed: int) -> BaseSampler:
    """The sampler of this name; parallel trials are counted as bad until their values are known."""
    from optuna.samplers import NSGAIISampler, RandomSampler, TPESampler

    name = name or ("tpe" if objectives == 1 else "nsga2")
    if name == "tpe":
        return TPESampler(seed=seed, constant_liar=True)
    return NSGAIISampler(seed=seed) if name == "nsga2" else RandomSampler(seed=seed)


def make_pruner(name: str) -> BasePruner:
    """The pruner of this name."""
    from optuna.pruners import MedianPruner, NopPruner, SuccessiveHalvingPruner

    return {"none": NopPruner, "median": MedianPruner, "halving": SuccessiveHalvingPruner}[name]()
