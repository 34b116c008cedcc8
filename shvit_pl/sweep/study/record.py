"""A sweep folder: what it says of itself, and what its study says of its points."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from optuna.trial import FrozenTrial, TrialState

from shvit_pl.command_line.config_files import read_config
from shvit_pl.errors import UserError
from shvit_pl.runs.folder import newest_run, read_curves
from shvit_pl.sweep.layout import RUNS, SWEEP
from shvit_pl.sweep.plan.definition import Definition, refuse_other
from shvit_pl.sweep.plan.grid import Point
from shvit_pl.sweep.results import Cell, Results, Run, State
from shvit_pl.sweep.study.progress import command_of
from shvit_pl.sweep.study.study import CURVES, DEFINITION, ERROR, RUN, SPEED, SUMMARY, Board, is_fault

_FACTS = {"command", "study", "storage", "definition"}
_STATES: dict[TrialState, State] = {
    TrialState.COMPLETE: "done",
    TrialState.PRUNED: "pruned",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "waiting",
    TrialState.FAIL: "failed",
}


def recorded(board: Board) -> Definition | None:
    """What the study says that it is a sweep of; None of a new one."""
    stored = board.study.user_attrs.get(DEFINITION)
    return Definition.from_dict(stored) if stored is not None else None


def record(board: Board, definition: Definition, where: str) -> int:
    """Keep what defines a sweep; raises `UserError` where the study is of another one.

    Returns:
        How many points it has beyond those that were recorded before.
    """
    before = recorded(board)
    if before is not None:
        refuse_other(before, definition, where)
    if before is None or before != definition:
        board.study.set_user_attr(DEFINITION, definition.as_dict())
    return len(definition.points) - (len(before.points) if before else 0)


def write_file(folder: Path, definition: Definition, study: str, storage: str | None, command: Sequence[str]) -> None:
    """Write `sweep.yaml`, for people and for `report`."""
    facts = {
        "command": shlex.join(command),
        "study": study,
        "storage": storage,
        "definition": definition.as_dict(),
    }
    partial = folder / f".{SWEEP}.{os.getpid()}"
    partial.write_text(yaml.safe_dump(facts, sort_keys=False))
    partial.replace(folder / SWEEP)


def read_file(folder: Path) -> dict[str, Any]:
    """Read `sweep.yaml`; raises `UserError` where a folder is no sweep's."""
    if not (folder / SWEEP).is_file():
        raise UserError(f"--folder {str(folder)!r}: no sweep's folder (no {SWEEP} in it); give that of shvit-pl sweep.")
    facts = read_config(str(folder / SWEEP))
    if facts.keys() != _FACTS:
        raise UserError(
            f"--folder {str(folder)!r}: its {SWEEP} is not the record of a sweep. Give another folder, or rename it."
        )
    return facts


def read_results(board: Board, definition: Definition, folder: Path) -> Results:
    """What the study knows by now."""
    keyed = board.by_key()
    runs: dict[str, list[Run]] = {name: [] for name in definition.cells}
    choices = dict(definition.cells)
    for key, point in definition.points.items():
        trial = _telling(keyed.get(key, []))
        runs[point.cell].append(_run(point, trial, folder))
        if definition.search is not None and trial is not None:
            choices[point.cell] = dict(trial.params)
    cells = tuple(Cell(name, choices[name], tuple(runs[name])) for name in definition.cells)
    kind: Any = definition.kind
    return Results(folder.absolute().name, kind, definition.objectives, cells, board.study.user_attrs.get(SPEED))


def _telling(trials: Sequence[FrozenTrial]) -> FrozenTrial | None:
    """The trial that says most of its point: what is done, else runs, else waits, else failed by itself."""
    done = [trial for trial in trials if trial.state in (TrialState.COMPLETE, TrialState.PRUNED)]
    active = [trial for state in (TrialState.RUNNING, TrialState.WAITING) for trial in trials if trial.state == state]
    faults = [trial for trial in reversed(trials) if is_fault(trial)]
    return next(iter([*done, *active, *faults]), None)


def _run(point: Point, trial: FrozenTrial | None, folder: Path) -> Run:
    if trial is None:
        return Run(point.seed, "waiting", None, {}, None, "")
    facts, state = trial.user_attrs, _STATES[trial.state]
    current = newest_run(folder / RUNS / point.key)
    return Run(
        point.seed,
        state,
        facts.get(SUMMARY),
        facts.get(CURVES) or (read_curves(current) if current is not None else {}),
        facts.get(RUN) or (str(current.relative_to(folder)) if current is not None else None),
        command_of(trial),
        facts.get(ERROR) if state == "failed" else None,
    )
