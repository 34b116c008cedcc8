"""The driver of a sweep: it enqueues missing points, has its engine run `fit` for them, and stores their results."""

import shlex
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from shvit_pl.errors import one_line
from shvit_pl.runs.folder import finished_run, read_curves, read_summary
from shvit_pl.sweep.definition import LOGS, RUNS, Definition, Point, as_flags, monitor, value_of
from shvit_pl.sweep.engine.engines import Ended, Engine, Job
from shvit_pl.sweep.engine.pruning import KEY_VARIABLE, PruneServer
from shvit_pl.sweep.engine.reading import Status, read_status
from shvit_pl.sweep.engine.study import COMMAND, CURVES, ERROR, KEY, LOST, PLACED, RUN, SUMMARY, SweepStudy
from shvit_pl.sweep.options import SweepOptions
from shvit_pl.sweep.processes import describe_exit

_POLL = 0.2  # seconds between two looks at the runs


class Terminated(BaseException):
    """The driver got SIGTERM, as from a scheduler whose time is up."""


@dataclass(frozen=True)
class Launch:
    """Settings that all runs share."""

    folder: Path
    """Of the sweep."""
    base: Sequence[str]
    """Flags that all runs begin with, configs included."""
    program: Sequence[str] = (sys.executable, "-m", "shvit_pl.cli", "fit")


@dataclass
class _Run:
    """A run, which the engine has or gets."""

    number: int
    """The trial's."""
    point: Point
    log: Path
    placed: Any = None
    """What the engine takes for it."""
    since: float | None = None
    """Monotonic time in seconds of its start; None while it waits for its place."""

    def minutes(self) -> float:
        """Return the time since its start."""
        return (time.monotonic() - self.since) / 60 if self.since is not None else 0.0


class Driver:
    """Runs the points of a sweep on an engine."""

    def __init__(
        self, study: SweepStudy, definition: Definition, launch: Launch, engine: Engine, options: SweepOptions
    ) -> None:
        self.study, self.definition, self.launch, self.engine, self.options = study, definition, launch, engine, options
        self._runs: list[_Run] = []
        self._server: PruneServer | None = None

    def drive(self, show: Callable[[Status], None]) -> Status:
        """Work until every point is done or given up, and `show` the progress.

        Raises:
            KeyboardInterrupt: on Ctrl-C, when all runs have ended.
            Terminated: on SIGTERM, the same.
        """
        (self.launch.folder / LOGS).mkdir(parents=True, exist_ok=True)
        if self.definition.pruner != "none":
            self._server = PruneServer(partial(self.study.report, pruner=self.definition.pruner), self.engine.host)
        for trial in self.study.trials((TrialState.RUNNING,)):
            self._take_over(trial)
        with _signals_raise() as check:
            try:
                while True:
                    check()
                    status = self._look()
                    show(status)
                    if status.left == 0:
                        return status
                    self._start(self.engine.room() - len(self._runs))
                    time.sleep(_POLL)
            except (KeyboardInterrupt, Terminated):
                print("stopping the runs ...", flush=True)
                raise
            finally:  # the same command goes on with the runs
                for number in (signal.SIGINT, signal.SIGTERM):
                    signal.signal(number, signal.SIG_IGN)
                self.engine.stop([run.placed for run in self._runs])
                for run in self._runs:
                    self.study.end(run.number, TrialState.FAIL, {LOST: True, ERROR: "interrupted"})
                if self._server is not None:
                    self._server.close()

    def _look(self) -> Status:
        """Store what has ended, and enqueue what is missing."""
        for run in list(self._runs):
            with self._faults_recorded(run):
                ended = self.engine.ended(run.placed)
                if run.since is None and self.engine.has_begun(run.placed):
                    run.since = time.monotonic()
                if ended is not None:
                    self._runs.remove(run)
                    if not self._store(run.number, run.point):
                        self.study.end(run.number, TrialState.FAIL, _fault(run, ended))
        limit = self.options.timeout
        if limit and (overdue := [run for run in self._runs if run.minutes() > limit]):
            self.engine.stop([run.placed for run in overdue])
            for run in overdue:
                self._runs.remove(run)
                fault = f"stopped after {run.minutes():.3g} minutes (--timeout {limit:g})"
                self.study.end(run.number, TrialState.FAIL, {ERROR: fault})
        self.study.enqueue_missing(self.definition.points.values(), self.options.retries)
        return read_status(self.study, self.definition, self.options.retries)

    def _start(self, count: int) -> None:
        """Start runs of the points that wait first, at most so many."""
        runs, jobs = list[_Run](), list[Job]()
        for trial in self.study.waiting() if count > 0 else ():
            if len(runs) == count:
                break
            self.study.begin(trial.number)
            point = self.definition.points[trial.user_attrs[KEY]]
            run = _Run(trial.number, point, self._log(point))
            with self._faults_recorded(run):
                flags = self._flags(trial, point)
                if flags is None or self._store(run.number, point):
                    continue  # its next trial has another point; or a driver was killed before it stored the results
                command = [*self.launch.program, *flags]
                with run.log.open("a") as file:
                    file.write(f"$ {shlex.join(command)}\n")
                environment = {KEY_VARIABLE: self._server.key} if self._server is not None else {}
                jobs.append(Job(point.key, command, run.log, environment))
                runs.append(run)
        placed = iter(self.engine.start(jobs))
        for run in runs:
            with self._faults_recorded(run):
                run.placed = next(placed, None)
                if run.placed is None:
                    self.study.end(run.number, TrialState.FAIL, {LOST: True, ERROR: "there was no room for it"})
                    continue
                self._runs.append(run)
                if name := self.engine.name(run.placed):
                    self.study.set_attrs(run.number, {PLACED: name})

    def _take_over(self, trial: FrozenTrial) -> None:
        """Go on with a run of a driver that was killed, or end its trial where the run was killed too."""
        name, point = trial.user_attrs.get(PLACED), self.definition.points[trial.user_attrs[KEY]]
        placed = self.engine.attach(name) if name else None
        if placed is None:
            self.study.end(trial.number, TrialState.FAIL, {LOST: True, ERROR: "the sweep was killed"})
        else:
            self._runs.append(_Run(trial.number, point, self._log(point), placed))

    def _log(self, point: Point) -> Path:
        return self.launch.folder / LOGS / f"{point.key}.log"

    def _flags(self, trial: FrozenTrial, point: Point) -> list[str] | None:
        """Return the flags of `fit` for a point, and store them as its command; None where a search repeats itself."""
        choices: dict[str, Any] | None = point.choices
        if self.definition.search is not None:
            seed = point.seed + list(self.definition.points).index(point.key)
            choices = self.study.suggest(trial.number, self.definition.search, seed)
        if choices is None:
            return None
        metric = monitor(self.definition.objectives)
        flags = [
            *self.launch.base,
            *as_flags(choices),
            f"--seed_everything={point.seed}",
            *[f"--data.fold={point.fold}/{self.definition.folds}"] * bool(point.fold),
            f"--monitor={metric}",
            f"--trainer.default_root_dir={self.launch.folder / RUNS}",
            f"--run_name={point.key}",
            "--ckpt_path=last",
            "--plain=true",
        ]
        if self._server is not None:
            settings = {"address": self._server.address, "trial": trial.number, "metric": metric}
            flags.append("--trainer.callbacks+=shvit_pl.sweep.engine.pruning.PruneTrial")
            flags += as_flags({f"trainer.callbacks.{name}": value for name, value in settings.items()})
        self.study.set_attrs(trial.number, {COMMAND: flags})
        return flags

    def _store(self, number: int, point: Point) -> bool:
        """End a trial with the results of its run; returns False where the run has none."""
        run = finished_run(self.launch.folder / RUNS / point.key)
        if run is None:
            return False
        summary = read_summary(run)
        attrs = {SUMMARY: summary, CURVES: read_curves(run), RUN: str(run.relative_to(self.launch.folder))}
        values = {objective: value_of(summary, objective) for objective in self.definition.objectives}
        known = [value for value in values.values() if value is not None]
        if len(known) < len(values):
            missing = next(objective for objective, value in values.items() if value is None)
            self.study.end(number, TrialState.FAIL, attrs | {ERROR: f"{missing} is missing in its summary.json"})
        else:
            pruned = self.definition.pruner != "none" and summary["steps_trained"] < summary["steps"]
            self.study.end(number, TrialState.PRUNED if pruned else TrialState.COMPLETE, attrs, known)
        return True

    @contextmanager
    def _faults_recorded(self, run: _Run) -> Iterator[None]:
        """Fail a trial for whatever is raised, so that its point is not tried forever, and the others go on."""
        try:
            yield
        except Exception as error:
            with run.log.open("a") as file:
                traceback.print_exc(file=file)
            if run in self._runs:
                self._runs.remove(run)
                self.engine.stop([run.placed])
            self.study.end(run.number, TrialState.FAIL, {ERROR: f"{type(error).__name__}: {one_line(error)}"})


def _fault(run: _Run, ended: Ended) -> dict[str, Any]:
    """Return what is recorded of a run that failed."""
    where = f" (on {ended.where})" if ended.where else ""
    if ended.lost:
        return {LOST: True, ERROR: (ended.reason or "its computer was lost") + where}
    told = describe_exit(run.log.read_text(errors="replace"), ended.code)
    return {ERROR: "; ".join(filter(None, (ended.reason, told))) + where}


@contextmanager
def _signals_raise() -> Iterator[Callable[[], None]]:
    """Turn Ctrl-C and SIGTERM into exceptions; the yielded function raises one that a destructor has swallowed."""
    caught: list[BaseException] = []

    def stop(number: int, frame: object) -> None:
        caught.append(Terminated() if number == signal.SIGTERM else KeyboardInterrupt())
        raise caught[0]

    def check() -> None:
        if caught:
            raise caught[0]

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield check
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
