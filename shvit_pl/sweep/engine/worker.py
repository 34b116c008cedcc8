"""A worker: takes one point after the other from the study, and runs `fit` on it in a process of its own."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from shvit_pl.errors import UserError, one_line
from shvit_pl.runs.folder import finished_run, read_curves, read_summary
from shvit_pl.sweep.engine.folder import LOGS, RUNS
from shvit_pl.sweep.engine.storage import open_storage, retry_while_unavailable
from shvit_pl.sweep.engine.sweep_study import (
    BEAT,
    COMMAND,
    CURVES,
    DEFINITION,
    ERROR,
    EXIT,
    KEY,
    LOST,
    RUN,
    SUMMARY,
    SweepStudy,
)
from shvit_pl.sweep.plan.definition import Definition, Point, as_flags, value_of
from shvit_pl.sweep.processes import describe_exit, start_child, this_process

_NEXT_POLL = 0.3  # seconds between two looks for a point that waits
_RUN_POLL = 0.1  # seconds between two looks at a run
_PATIENCE = 20.0  # seconds for a run to end by itself


@dataclass(frozen=True)
class WorkerSpec:
    """The settings of a worker."""

    folder: str
    """The sweep folder."""
    storage: str | None
    """URL of the study's database; None for the journal in the folder."""
    study: str
    """Name of the study."""
    base: tuple[str, ...]
    """Flags that all runs begin with, configs included."""
    program: tuple[str, ...] = (sys.executable, "-m", "shvit_pl.cli", "fit")
    """The program that is run with these flags."""
    heartbeat: float = 10.0
    """Seconds between two signs of life."""

    def as_json(self) -> str:
        """Return the argument of a worker's process."""
        return json.dumps(asdict(self))


class Stopped(BaseException):
    """The worker is to stop; not an error that anything should catch on the way."""


class Worker:
    """Runs points until it is stopped."""

    def __init__(self, spec: WorkerSpec) -> None:
        self.spec = spec
        self.folder = Path(spec.folder)
        self.study = retry_while_unavailable(
            lambda: SweepStudy(open_storage(self.folder, spec.storage), spec.study), (UserError, StorageInternalError)
        )
        self.process = this_process()

    def work(self) -> None:
        """Run one point after the other; where none waits, stay: one comes back if another worker dies."""
        while True:
            trial = retry_while_unavailable(lambda: self.study.claim(self.process))
            if trial is None:
                time.sleep(_NEXT_POLL)
                continue
            try:
                self._run(trial)
            except Stopped:
                self.study.end(trial.number, TrialState.FAIL, {LOST: True, ERROR: "interrupted"})
                raise
            except Exception as error:  # if this ended the worker, its point would be tried for ever
                traceback.print_exc()
                message = f"{type(error).__name__}: {one_line(error)}"
                self.study.end(trial.number, TrialState.FAIL, {ERROR: message})

    def _run(self, trial: FrozenTrial) -> None:
        definition = retry_while_unavailable(
            lambda: Definition.from_dict(self.study.optuna_study.user_attrs[DEFINITION])
        )
        point = definition.points[trial.user_attrs[KEY]]
        flags = retry_while_unavailable(lambda: self._flags(trial, point, definition))
        folder = self.folder / RUNS / point.key
        run = finished_run(folder)  # of a worker that died before it could store it
        if run is None:
            log = self.folder / LOGS / f"{point.key}.log"
            code, error = self._execute(trial.number, [*self.spec.program, *flags], log)
            run = finished_run(folder)
            if run is None:
                self.study.end(trial.number, TrialState.FAIL, {EXIT: code, ERROR: error})
                return
        self._store(trial.number, run, definition)

    def _flags(self, trial: FrozenTrial, point: Point, definition: Definition) -> list[str]:
        """Return the flags of `fit` for a point, and store them as its command."""
        choices = point.choices
        if definition.search is not None:
            seed = point.seed + list(definition.points).index(point.key)
            choices = self.study.suggest(trial.number, definition.search, seed)
        flags = [
            *self.spec.base,
            *as_flags(choices),
            f"--seed_everything={point.seed}",
            f"--monitor={definition.monitor}",
            f"--trainer.default_root_dir={self.folder / RUNS}",
            f"--run_name={point.key}",
            "--ckpt_path=last",
            "--plain=true",
            *self._pruning_flags(trial.number, definition),
        ]
        self.study.set_attrs(trial.number, {COMMAND: flags})
        return flags

    def _pruning_flags(self, number: int, definition: Definition) -> list[str]:
        """Return the callback that asks the pruner after each epoch."""
        if definition.pruner == "none":
            return []
        self.study.copy_reports(number)
        settings = {
            "folder": self.spec.folder,
            "storage": self.spec.storage,
            "study": self.spec.study,
            "trial": number,
            "metric": definition.monitor,
            "pruner": definition.pruner,
        }
        flags = as_flags({f"trainer.callbacks.{name}": value for name, value in settings.items()})
        return ["--trainer.callbacks+=shvit_pl.sweep.engine.pruning.PruneTrial", *flags]

    def _execute(self, number: int, command: Sequence[str], log: Path) -> tuple[int, str | None]:
        """Run a trial's command to its end, with its output added to `log`.

        Returns:
            The exit code (negative: the signal that killed it), and the last line of a process that failed.

        Raises:
            Stopped: when the worker is stopped; the process has ended then.
        """
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a") as file:
            file.write(f"$ {shlex.join(command)}\n")
            file.flush()
            process = start_child(command, file)
        try:
            code = self._wait(number, process)
        except BaseException:
            _end_group(process)
            raise
        return code, None if code == 0 else describe_exit(log.read_text(errors="replace"), code)

    def _wait(self, number: int, process: subprocess.Popen[bytes]) -> int:
        """Wait for the end, and give signs of life; the run of a trial that another process has ended is stopped."""
        beats, due = 0, time.monotonic()
        while True:
            if time.monotonic() >= due:
                beats, due = beats + 1, time.monotonic() + self.spec.heartbeat
                try:
                    self.study.set_attrs(number, {BEAT: beats})
                except UpdateFinishedTrialError:
                    _end_group(process)
                except StorageInternalError:  # a database that is unavailable for a while
                    pass
            with suppress(subprocess.TimeoutExpired):
                return process.wait(_RUN_POLL)

    def _store(self, number: int, run: Path, definition: Definition) -> None:
        """Store the results of a finished run in its trial."""
        summary = read_summary(run)
        attrs = {SUMMARY: summary, CURVES: read_curves(run), RUN: str(run.relative_to(self.folder))}
        values = {objective: value_of(summary, objective) for objective in definition.objectives}
        known = [value for value in values.values() if value is not None]
        if len(known) < len(values):
            missing = next(objective for objective, value in values.items() if value is None)
            self.study.end(number, TrialState.FAIL, attrs | {ERROR: f"{missing} is not in its summary.json"})
            return
        pruned = definition.pruner != "none" and summary["steps_trained"] < summary["steps"]
        self.study.end(number, TrialState.PRUNED if pruned else TrialState.COMPLETE, attrs, known)


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """End a process and its children: by SIGTERM, then by SIGKILL."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(_PATIENCE)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def main() -> int:
    """Work as the first argument specifies, until stopped by SIGTERM."""
    signal.signal(signal.SIGTERM, _stop)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver answers Ctrl-C
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
