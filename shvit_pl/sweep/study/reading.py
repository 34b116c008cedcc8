"""What a sweep has found, read from its study and its folder."""

from __future__ import annotations

from pathlib import Path

from optuna.trial import FrozenTrial, TrialState

from shvit_pl.errors import UserError
from shvit_pl.runs.folder import newest_run, read_curves
from shvit_pl.sweep.plan.definition import Definition
from shvit_pl.sweep.plan.points import Point
from shvit_pl.sweep.results import Cell, Results, Run, State
from shvit_pl.sweep.study.board import Board
from shvit_pl.sweep.study.folder import JOURNAL, RUNS, read_record
from shvit_pl.sweep.study.storage import hide_password, open_storage
from shvit_pl.sweep.study.trials import CURVES, ERROR, RUN, SPEED, SUMMARY, command_of, telling

_STATES: dict[TrialState, State] = {
    TrialState.COMPLETE: "done",
    TrialState.PRUNED: "pruned",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "waiting",
    TrialState.FAIL: "failed",
}


def results_of(folder: Path, storage: str | None = None) -> Results:
    """What the sweep in a folder has found.

    Args:
        folder: The sweep folder.
        storage: URL of the study's database, if the one in sweep.yaml is not to be used.

    Raises:
        UserError: for any other folder, or a study that is not there.
    """
    facts = read_record(folder)
    board = _opened(folder, hide_password(storage) or facts["storage"], facts["study"])
    return read_results(board, board.definition() or Definition.from_dict(facts["definition"]), folder)


def read_results(board: Board, definition: Definition, folder: Path) -> Results:
    """What the study knows by now."""
    keyed = board.by_key()
    runs: dict[str, list[Run]] = {name: [] for name in definition.cells}
    choices = dict(definition.cells)
    for key, point in definition.points.items():
        trial = telling(keyed.get(key, []))
        runs[point.cell].append(_run(point, trial, folder))
        if definition.search is not None and trial is not None:
            choices[point.cell] = dict(trial.params)
    cells = tuple(Cell(name, choices[name], tuple(runs[name])) for name in definition.cells)
    speed = board.study.user_attrs.get(SPEED)
    return Results(folder.absolute().name, definition.kind, definition.objectives, cells, speed)


def _opened(folder: Path, storage: str | None, name: str) -> Board:
    try:
        if storage is None and not (folder / JOURNAL).is_file():  # opening it would make it
            raise KeyError(JOURNAL)
        return Board(open_storage(folder, storage), name)
    except KeyError as error:
        where = f"there is no study {name!r} in {storage or f'its {JOURNAL}'}"
        raise UserError(f"--folder {str(folder)!r}: {where}; give another --storage.") from error


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
