"""A worker: takes one point after the other from the study, and runs `fit` on it in a process of its own."""

from __future__ import annotations

import json
import signal
import sys
import time
import traceback
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from optuna.exceptions import StorageInternalError
from optuna.trial import FrozenTrial, TrialState

from shvit_pl.errors import UserError, one_line
from shvit_pl.runs.folder import finished_run, read_curves, read_summary
from shvit_pl.sweep.engine.attempt import Attempt, Stopped
from shvit_pl.sweep.plan.definition import Definition
from shvit_pl.sweep.plan.flags import as_flags
from shvit_pl.sweep.plan.objectives import monitor, value_of
from shvit_pl.sweep.plan.points import Point
from shvit_pl.sweep.plan.search import make_sampler, suggest
from shvit_pl.sweep.processes import this_process
from shvit_pl.sweep.study.board import Board
from shvit_pl.sweep.study.folder import LOGS, RUNS
from shvit_pl.sweep.study.storage import open_storage, patiently
from shvit_pl.sweep.study.trials import COMMAND, CURVES, DEFINITION, ERROR, EXIT, KEY, LOST, RUN, SUMMARY

_POLL = 0.3  # seconds between two looks for a point that waits


@dataclass(frozen=True)
class WorkerSpec:
    """What a worker is told.

    Attributes:
        folder: The sweep folder.
        storage: URL of the study's database; None for the journal in the folder.
        study: Name of the study.
        base: Flags that all runs begin with, configs included.
        program: What is run with those flags: `shvit-pl fit`.
        heartbeat: Seconds between two signs of life.
    """

    folder: str
    storage: str | None
    study: str
    base: tuple[str, ...]
    program: tuple[str, ...] = (sys.executable, "-m", "shvit_pl.cli", "fit")
    heartbeat: float = 10.0

    def as_json(self) -> str:
        """As a worker's process takes it."""
        return json.dumps(asdict(self))


class Worker:
    """Runs points until it is stopped.

    Args:
        spec: What it is told.
    """

    def __init__(self, spec: WorkerSpec) -> None:
        self.spec = spec
        self.folder = Path(spec.folder)
        self.board = patiently(
            lambda: Board(open_storage(self.folder, spec.storage), spec.study), (UserError, StorageInternalError)
        )
        self.me = this_process()

    def work(self) -> None:
        """Take one point after the other; what is there waits for others, and comes back if their worker dies."""
        while True:
            trial = patiently(lambda: self.board.claim(self.me))
            if trial is None:
                time.sleep(_POLL)
                continue
            try:
                self._run(trial)
            except Stopped:
                self.board.end(trial.number, TrialState.FAIL, {LOST: True, ERROR: "interrupted"})
                raise
            except Exception as error:  # if this ended the worker, its point would be tried for ever
                traceback.print_exc()
                self.board.end(trial.number, TrialState.FAIL, {ERROR: f"{type(error).__name__}: {one_line(error)}"})

    def _run(self, trial: FrozenTrial) -> None:
        definition = patiently(lambda: Definition.from_dict(self.board.study.user_attrs[DEFINITION]))
        point = definition.points[trial.user_attrs[KEY]]
        flags = patiently(lambda: self._flags(trial, point, definition))
        run = finished_run(self.folder / RUNS / point.key)  # whose worker died before it could say so
        if run is None:
            attempt = Attempt(self.board, trial.number, self.spec.heartbeat)
            code, error = attempt.run([*self.spec.program, *flags], self.folder / LOGS / f"{point.key}.log")
            run = finished_run(self.folder / RUNS / point.key)
            if run is None:
                self.board.end(trial.number, TrialState.FAIL, {EXIT: code, ERROR: error})
                return
        self._done(trial.number, run, definition)

    def _flags(self, trial: FrozenTrial, point: Point, definition: Definition) -> list[str]:
        """The flags of `fit` for a point, noted as its command."""
        choices = point.choices
        if definition.search is not None:
            number = list(definition.points).index(point.key)
            sampler = definition.search["sampler"]
            self.board.study.sampler = make_sampler(sampler, len(definition.objectives), point.seed + number)
            choices = suggest(self.board.open(trial.number), definition.search["space"])
        flags = [
            *self.spec.base,
            *as_flags(choices),
            f"--seed_everything={point.seed}",
            f"--monitor={monitor(definition.objectives)}",
            f"--trainer.default_root_dir={self.folder / RUNS}",
            f"--run_name={point.key}",
            "--ckpt_path=last",
            "--plain=true",
            *self._pruning(trial.number, definition),
        ]
        self.board.note(trial.number, {COMMAND: flags})
        return flags

    def _pruning(self, number: int, definition: Definition) -> list[str]:
        """The callback that asks the pruner after each epoch."""
        if definition.pruner == "none":
            return []
        self.board.carry_over(number)
        settings = {
            "folder": self.spec.folder,
            "storage": self.spec.storage,
            "study": self.spec.study,
            "trial": number,
            "metric": monitor(definition.objectives),
            "pruner": definition.pruner,
        }
        flags = as_flags({f"trainer.callbacks.{name}": setting for name, setting in settings.items()})
        return ["--trainer.callbacks+=shvit_pl.sweep.engine.pruning.PruneTrial", *flags]

    def _done(self, number: int, run: Path, definition: Definition) -> None:
        summary = read_summary(run)
        values = [value_of(summary, objective) for objective in definition.objectives]
        facts: dict[str, Any] = {
            SUMMARY: summary,
            CURVES: read_curves(run),
            RUN: str(run.relative_to(self.folder)),
        }
        reached = [each for each in values if each is not None]
        if len(reached) < len(values):
            missing = list(definition.objectives)[values.index(None)]
            self.board.end(number, TrialState.FAIL, facts | {ERROR: f"{missing} is not in its summary.json"})
            return
        pruned = definition.pruner != "none" and summary["steps_trained"] < summary["steps"]
        state = TrialState.PRUNED if pruned else TrialState.COMPLETE
        self.board.end(number, state, facts, reached)


def main() -> int:
    """Work as the first argument says, until stopped by SIGTERM."""
    signal.signal(signal.SIGTERM, _stop)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the driver's to answer
    try:
        Worker(WorkerSpec(**json.loads(sys.argv[1]))).work()
    except Stopped:
        return 128 + signal.SIGTERM
    return 0


def _stop(number: int, frame: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise Stopped


if __name__ == "__main__":
    sys.exit(main())
