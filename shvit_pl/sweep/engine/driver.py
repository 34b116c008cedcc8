"""The driver of a sweep: it enqueues missing points, and runs `fit` on one per slot, in parallel with other drivers."""

import os
import shlex
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from shvit_pl.compat import cores_of_process
from shvit_pl.errors import one_line
from shvit_pl.runs.folder import finished_run, read_curves, read_summary
from shvit_pl.sweep.definition import LOGS, RUNS, Definition, Point, as_flags, monitor, value_of
from shvit_pl.sweep.engine.reading import Place, Status, read_status
from shvit_pl.sweep.engine.storage import retry_while_unavailable
from shvit_pl.sweep.engine.sweep_study import BEAT, COMMAND, CURVES, ERROR, KEY, LOST, RUN, SUMMARY, SweepStudy
from shvit_pl.sweep.options import SweepOptions
from shvit_pl.sweep.processes import describe_exit, kill_on_parent_exit, this_process

_POLL = 0.2  # seconds between two looks at the runs and the study
_SILENCE = 6  # heartbeats after which a driver on another machine is taken for dead
_PATIENCE = 20.0  # seconds for runs to end by themselves


class Terminated(BaseException):
    """The driver got SIGTERM, as from a scheduler whose time is up."""


@dataclass(frozen=True)
class Launch:
    """Settings that all runs of this machine share."""

    place: Place
    base: Sequence[str]
    """Flags that all runs begin with, configs included."""
    slots: Sequence[str | None]
    """The GPU of each run that goes on at a time, as CUDA_VISIBLE_DEVICES names it; None where it gets none."""
    program: Sequence[str] = (sys.executable, "-m", "shvit_pl.cli", "fit")


@dataclass
class _Run:
    """A run of this driver."""

    number: int
    """The trial's."""
    point: Point
    definition: Definition
    log: Path
    process: subprocess.Popen[bytes]
    beats: int = 0
    due: float = 0.0
    """Monotonic time in seconds at which the next heartbeat is due."""


class Driver:
    """Runs the points of a sweep, in parallel with drivers on other machines."""

    def __init__(self, study: SweepStudy, launch: Launch, options: SweepOptions) -> None:
        self.study, self.launch, self.options = study, launch, options
        self.folder = launch.place.folder
        self._process = this_process()
        self._runs: dict[int, _Run] = {}  # runs in progress, by slot

    def drive(self, definition: Definition, show: Callable[[Status], None]) -> Status:
        """Work until every point is done or given up, here or on other machines, and `show` the progress.

        Raises:
            KeyboardInterrupt: on Ctrl-C, when all runs have ended.
            Terminated: on SIGTERM, the same.
        """
        (self.folder / LOGS).mkdir(parents=True, exist_ok=True)
        with _signals_raise() as check:
            try:
                while True:
                    check()
                    status = retry_while_unavailable(partial(self._look, definition))
                    show(status)
                    if status.left == 0 or not (self.options.wait or status.left > len(status.running) or self._runs):
                        return status
                    for slot in range(len(self.launch.slots)):
                        if slot not in self._runs:
                            self._fill(slot)
                    time.sleep(_POLL)
            except (KeyboardInterrupt, Terminated):
                print("stopping the runs ...", flush=True)
                raise
            finally:  # others, or the same command, go on with the runs
                for number in (signal.SIGINT, signal.SIGTERM):
                    signal.signal(number, signal.SIG_IGN)
                _end([run.process for run in self._runs.values()])
                with suppress(StorageInternalError):  # then others see that this process is gone
                    for run in self._runs.values():
                        self.study.end(run.number, TrialState.FAIL, {LOST: True, ERROR: "interrupted"})

    def _look(self, definition: Definition) -> Status:
        """Look after the runs here, and the points of all machines."""
        for slot, run in list(self._runs.items()):
            code = run.process.poll()
            if code is not None:
                with self._faults_recorded(run.number, run.log):
                    if not self._store(run.number, run.point, run.definition):
                        error = describe_exit(run.log.read_text(errors="replace"), code)
                        self.study.end(run.number, TrialState.FAIL, {ERROR: error})
                del self._runs[slot]
            elif time.monotonic() >= run.due:
                run.beats, run.due = run.beats + 1, time.monotonic() + self.options.heartbeat
                try:
                    self.study.set_attrs(run.number, {BEAT: run.beats})
                except UpdateFinishedTrialError:  # another process has ended its trial
                    _end([run.process])
        self.study.end_abandoned(_SILENCE * self.options.heartbeat)
        self.study.enqueue_missing(definition.points.values(), self.options.retries)
        return read_status(self.study, definition, self.options.retries)

    def _fill(self, slot: int) -> None:
        """Start the run of a point that waits, if there is one."""
        trial = retry_while_unavailable(lambda: self.study.claim(self._process))
        if trial is None:
            return
        # another driver may have added points
        definition = retry_while_unavailable(self.study.definition)
        assert definition is not None
        point = definition.points[trial.user_attrs[KEY]]
        log = self.folder / LOGS / f"{point.key}.log"
        with self._faults_recorded(trial.number, log):
            flags = retry_while_unavailable(lambda: self._flags(trial, point, definition))
            if flags is None:
                return  # its next trial has another point
            if retry_while_unavailable(lambda: self._store(trial.number, point, definition)):
                return  # its run has ended in a driver that died before it could store it
            command = [*self.launch.program, *flags]
            with log.open("a") as file:
                file.write(f"$ {shlex.join(command)}\n")
                file.flush()
                process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=file,
                    stderr=subprocess.STDOUT,
                    env=run_environment(self.launch.slots[slot], len(self.launch.slots), os.environ),
                    start_new_session=True,
                    preexec_fn=kill_on_parent_exit(),
                )
            self._runs[slot] = _Run(trial.number, point, definition, log, process)

    def _flags(self, trial: FrozenTrial, point: Point, definition: Definition) -> list[str] | None:
        """Return the flags of `fit` for a point, and store them as its command; None where a search repeats itself."""
        choices: dict[str, Any] | None = point.choices
        if definition.search is not None:
            seed = point.seed + list(definition.points).index(point.key)
            choices = self.study.suggest(trial.number, definition.search, seed)
        if choices is None:
            return None
        flags = [
            *self.launch.base,
            *as_flags(choices),
            f"--seed_everything={point.seed}",
            f"--monitor={monitor(definition.objectives)}",
            f"--trainer.default_root_dir={self.folder / RUNS}",
            f"--run_name={point.key}",
            "--ckpt_path=last",
            "--plain=true",
        ]
        if definition.pruner != "none":
            where = {"folder": str(self.folder), "storage": self.launch.place.storage, "study": self.launch.place.study}
            what = {"trial": trial.number, "metric": monitor(definition.objectives), "pruner": definition.pruner}
            flags.append("--trainer.callbacks+=shvit_pl.sweep.engine.pruning.PruneTrial")
            flags += as_flags({f"trainer.callbacks.{name}": value for name, value in (where | what).items()})
        self.study.set_attrs(trial.number, {COMMAND: flags})
        return flags

    def _store(self, number: int, point: Point, definition: Definition) -> bool:
        """End a trial with the results of its run; returns False where the run has none."""
        run = finished_run(self.folder / RUNS / point.key)
        if run is None:
            return False
        summary = read_summary(run)
        attrs = {SUMMARY: summary, CURVES: read_curves(run), RUN: str(run.relative_to(self.folder))}
        values = {objective: value_of(summary, objective) for objective in definition.objectives}
        known = [value for value in values.values() if value is not None]
        if len(known) < len(values):
            missing = next(objective for objective, value in values.items() if value is None)
            self.study.end(number, TrialState.FAIL, attrs | {ERROR: f"{missing} is missing in its summary.json"})
        else:
            pruned = definition.pruner != "none" and summary["steps_trained"] < summary["steps"]
            self.study.end(number, TrialState.PRUNED if pruned else TrialState.COMPLETE, attrs, known)
        return True

    @contextmanager
    def _faults_recorded(self, number: int, log: Path) -> Iterator[None]:
        """Fail a trial for whatever is raised, so that its point is not tried forever, and the others go on."""
        try:
            yield
        except StorageInternalError:
            raise
        except Exception as error:
            with log.open("a") as file:
                traceback.print_exc(file=file)
            fault = {ERROR: f"{type(error).__name__}: {one_line(error)}"}
            retry_while_unavailable(partial(self.study.end, number, TrialState.FAIL, fault))


def run_environment(gpu: str | None, slots: int, environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a run: `environment`, its GPU if it gets one, and its share of the CPU's cores."""
    # by SLURM's variables, a run would take itself for one of many processes of one training
    kept = {name: value for name, value in environment.items() if not name.startswith(("SLURM_", "PMI"))}
    kept["PYTHONUNBUFFERED"] = "1"
    if slots > 1 and "OMP_NUM_THREADS" not in kept:
        kept["OMP_NUM_THREADS"] = str(max(1, cores_of_process() // slots))
    if gpu is not None:
        kept["CUDA_VISIBLE_DEVICES"] = gpu
    return kept


def _end(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """End processes and their children: by SIGTERM, then by SIGKILL."""
    until = time.monotonic() + _PATIENCE
    for process in processes:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
    for process in processes:
        with suppress(subprocess.TimeoutExpired):
            process.wait(max(0.0, until - time.monotonic()))
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


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
