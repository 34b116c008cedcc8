"""Runs as SLURM jobs, by submitit; the sweep's folder is on a file system that all nodes share.

States are asked of `squeue`, which needs no accounting database; results are files that submitit writes.
"""

import atexit
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence, Set
from contextlib import redirect_stderr, suppress
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path
from textwrap import shorten
from typing import Any, NamedTuple

import submitit

from shvit_pl.errors import UserError, first_few, one_line
from shvit_pl.sweep.engine.engines import Ended, Engine, Job
from shvit_pl.sweep.options import SweepOptions, slurm_minutes
from shvit_pl.sweep.processes import end_processes, run_environment, start_process

_FOLDER = "slurm"  # in the sweep folder: what submitit writes
_ROOM = 64  # jobs at a time
_LONGEST = 24 * 60  # minutes of a job, where --time doesn't say and the partition allows it
_REQUEUES = 20  # of a job at its time limit
_ASK = 5.0  # seconds between two questions about jobs
_PATIENCE = 120.0  # seconds for jobs to end
_BUSY = r"timed out|[Uu]nable to contact|[Tt]emporarily|try again"  # of a controller, in a message of sbatch
_PAUSES = (10, 30, 60)  # seconds before jobs are submitted again to one that is
_LOST = {"BOOT_FAIL", "NODE_FAIL", "PREEMPTED"}
_ENDED = {*_LOST, "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "OUT_OF_MEMORY", "REVOKED", "TIMEOUT", ""}


@dataclass(frozen=True)
class _Task:
    """A run's part on a node. SLURM may stop and requeue it, and then it goes on from its last checkpoint."""

    job: Job
    nodes: int

    def __call__(self) -> tuple[int, str]:
        """Run `fit`; returns its exit code and this node's name. Where SLURM ends the job, there is no result."""
        job, command, variables = submitit.JobEnvironment(), [*self.job.command], dict(self.job.environment)
        if self.nodes > 1:
            variables |= {"MASTER_ADDR": job.hostnames[0], "MASTER_PORT": f"{20_000 + int(job.raw_job_id) % 10_000}"}
            variables["NODE_RANK"] = str(job.node)
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
        cores = os.environ.get("SLURM_CPUS_PER_TASK")
        environment = run_environment(os.environ, None, int(cores) if cores else None)
        process = start_process(command, self.job.log, environment | variables)
        try:
            code = process.wait()
        finally:  # SLURM ends the job, or submitit has requeued it at its time limit
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            end_processes([process])
        if code:  # for SLURM, once submitit has written the result; it ends the other nodes' parts
            atexit.register(os._exit, 1)
        return code, job.hostnames[job.node]

    def checkpoint(self) -> submitit.helpers.DelayedSubmission:
        """Return what a requeued job runs: the same."""
        return submitit.helpers.DelayedSubmission(self)


class _Node(NamedTuple):
    partition: str
    cpus: int
    gpus: int
    minutes: float
    """Time limit of the partition."""


class SlurmEngine(Engine):
    """SLURM; raises `UserError` where there is none, and for options that it refuses."""

    def __init__(self, options: SweepOptions, folder: Path, devices: object = "auto") -> None:
        self.host, self.folder = os.uname().nodename, folder.resolve() / _FOLDER
        self.workers, self.nodes = options.workers or _ROOM, options.nodes_per_run
        if missing := [name for name in ("sbatch", "srun", "squeue", "scancel", "sinfo") if shutil.which(name) is None]:
            raise UserError(f"--engine slurm: no {missing[0]} here; run it where SLURM is, or give another --engine.")
        for name in [name for name in os.environ if name.startswith(("SLURM_", "SRUN_")) and name != "SLURM_CONF"]:
            del os.environ[name]  # of the job that this driver may run in: sbatch and srun would obey them
        demand, nodes = _demand(options, devices)
        self.executor = submitit.SlurmExecutor(self.folder, max_num_timeout=_REQUEUES)
        self.executor.update_parameters(**demand, array_parallelism=self.workers)
        script = self.executor._make_submission_file_text("true", "")
        judged = subprocess.run(["sbatch", "--test-only"], input=script, capture_output=True, text=True, check=False)
        # that no node fits is also said where all are down, and sbatch lets jobs wait for them
        if judged.returncode and "node configuration is not available" not in judged.stderr:
            raise UserError(f"--engine slurm: sbatch refuses the runs: {' '.join(judged.stderr.split())} ({nodes})")
        self._states, self._asked, self._own = dict[str, str](), 0.0, set[str]()
        self._ask()

    def room(self) -> int:
        """Return `--workers`, or 64: the others wait here."""
        return self.workers

    def start(self, jobs: Sequence[Job]) -> list[Any]:
        """Submit the runs as one array of jobs.

        Raises `UserError` where sbatch refuses them; with jobs that go on, no more than these are tried from then on.
        """
        if not jobs:
            return []
        self.folder.mkdir(mode=0o700, exist_ok=True)
        self._cancel(self._states.keys() - self._own)  # of a driver that was killed before it could record them
        tasks = [_Task(job, self.nodes) for job in jobs]
        for pause in (*_PAUSES, None):
            try:
                with redirect_stderr(StringIO()):
                    runs = self.executor.submit_array(tasks)
                break
            except submitit.core.utils.FailedJobError as error:
                if pause is None or not re.search(_BUSY, str(error)):
                    self.workers = sum(self._states.get(name, "") not in _ENDED for name in self._own)
                    if self.workers:
                        return []
                    told = f"sbatch refuses {len(jobs)} runs: {one_line(error)}. Give fewer --workers, or other options"
                    raise UserError(f"--engine slurm: {told}.") from error
                time.sleep(pause)
        self._states |= {run.job_id: "PENDING" for run in runs}
        self._own |= {run.job_id for run in runs}
        return runs

    def name(self, run: Any) -> str:
        """Return the job's id."""
        return str(run.job_id)

    def attach(self, name: str) -> Any | None:
        """Return a job that waits, runs or has ended; None where neither SLURM knows it nor it left a result."""
        run = submitit.SlurmJob[Any](self.folder, name, range(self.nodes))
        self._own.add(name)
        return run if self._state(run) or self._results(run) else None

    def has_begun(self, run: Any) -> bool:
        """Return whether the job runs."""
        return self._state(run) in ("RUNNING", "COMPLETING")

    def ended(self, run: Any) -> Ended | None:
        """Return how a job ended; of several nodes, the first that failed."""
        state = self._state(run)
        if state not in _ENDED:
            return None
        results = self._results(run)
        told = next((result for result in results if result.code), results[0] if results else Ended(1))
        if results and state in ("COMPLETED", "FAILED", ""):
            return told
        reason = f"SLURM ended job {run.job_id}: {state or 'it is forgotten'}; see {run.paths.stderr}"
        return replace(told, lost=state in _LOST, reason=reason)

    def _results(self, run: Any) -> list[Ended]:
        """Return what the tasks of a job returned or raised, of those that have."""
        names, results = set(os.listdir(self.folder)), list[Ended]()  # the list is fresh, also on NFS
        for rank in range(run.num_tasks):
            path = run.task(rank).paths.result_pickle
            if path.name in names:
                outcome, result = pickle.loads(path.read_bytes())
                is_value = outcome == "success"
                results.append(Ended(*result) if is_value else Ended(1, reason=result.strip().splitlines()[-1]))
        return results

    def stop(self, runs: Sequence[Any]) -> None:
        """Cancel jobs, and wait until they have ended and their processes are gone."""
        self._cancel({run.job_id for run in runs})

    def _cancel(self, names: Set[str]) -> None:
        until = time.monotonic() + _PATIENCE
        while (
            left := [name for name in names if self._states.get(name, "") not in _ENDED]
        ) and time.monotonic() < until:
            subprocess.run(["scancel", "--quiet", *left], capture_output=True, check=False)
            time.sleep(1)
            with suppress(UserError):
                self._ask()

    def close(self) -> None:
        """Cancel what a signal may have kept the driver from recording."""
        with suppress(UserError):
            self._ask()
        if self._own:  # else, they are another driver's
            self._cancel(self._states.keys())

    def _state(self, run: Any) -> str:
        """Return a job's state; empty where SLURM has forgotten it."""
        if time.monotonic() > self._asked + _ASK:
            with suppress(UserError):  # the controller is busy
                self._ask()
        return self._states.get(run.job_id, "")

    def _ask(self) -> None:
        self._asked = time.monotonic()
        format_ = ("--array", "--noheader", "--states=all", "--format=%i %T %o")
        jobs = [line.split(maxsplit=2) for line in _tell("squeue", f"--user={os.getuid()}", *format_)]
        self._states = {name: state for name, state, script in jobs if script.startswith(f"{self.folder}/")}


def _tell(*command: str) -> list[str]:
    """Return the lines that a command of SLURM prints; raises `UserError` with its own message."""
    told = subprocess.run(command, capture_output=True, text=True, check=False)
    if told.returncode:
        why = shorten(told.stderr, 200, placeholder=" ...")
        raise UserError(
            f"--engine slurm: {command[0]} fails here ({why}). Run it where SLURM answers, or give another --engine."
        )
    return told.stdout.splitlines()


def _nodes(partition: str | None) -> list[_Node]:
    """Return the nodes of partitions, or the default one; of all where there is none."""
    rows = [line.split("|") for line in _tell("sinfo", "--Node", "--noheader", "--format=%P|%c|%G|%l")]
    wanted = partition.split(",") if partition else [name.rstrip("*") for name, *_ in rows if name.endswith("*")]
    nodes = [
        _Node(name.rstrip("*"), int(cpus), sum(map(int, re.findall(r"gpu:(?:[^:,(]+:)?(\d+)", gpus))), _limit(limit))
        for name, cpus, gpus, limit in rows
    ]
    names = sorted({node.partition for node in nodes})
    if partition and not {*wanted} <= {*names}:
        raise UserError(f"--partition {partition}: SLURM has {', '.join(names)}.")
    return [node for node in nodes if node.partition in wanted or not wanted]


def _limit(text: str) -> float:
    return float("inf") if text == "infinite" else slurm_minutes(text)


def _demand(options: SweepOptions, devices: object) -> tuple[dict[str, Any], str]:
    """Return submitit's parameters of a job, and what the partition has; raises `UserError` where that is too little.

    Without --gpus_per_run, a run gets a GPU where there are some, and without --cpus_per_run its share of the cores.
    """
    nodes, given = _nodes(options.partition), dict(each.partition("=")[::2] for each in options.sbatch)
    has_own = any(name.startswith(("gres", "gpus")) for name in given)
    is_asked = options.gpus_per_run or (any(node.gpus for node in nodes) and not has_own)
    gpus = int(options.gpus_of_run(devices)) if is_asked else 0
    has = Counter(f"partition {node.partition}: {node.cpus} CPUs and {node.gpus} GPUs a node" for node in nodes)
    known = first_few([f"{text}, {count} of them" for text, count in has.items()])
    fit = [node for node in nodes if node.gpus >= gpus and node.cpus >= (options.cpus_per_run or 1)]
    if max(Counter(node.partition for node in fit).values(), default=0) < options.nodes_per_run:
        asked = f"{options.nodes_per_run} nodes with {options.cpus_per_run or 1} CPUs and {gpus} GPUs"
        flags = "--nodes_per_run, --cpus_per_run, --gpus_per_run"
        raise UserError(f"--engine slurm: a run needs {asked} ({flags}), and there are {known}. Ask for less.")
    cpus = options.cpus_per_run or (min(max(1, node.cpus * gpus // node.gpus) for node in fit) if gpus else None)
    longest = max(node.minutes for node in fit)
    if options.time and slurm_minutes(options.time) > longest:
        raise UserError(f"--time {options.time}: the partition allows at most {longest:g} minutes.")
    name = given.pop("job-name", "shvit-pl")
    more = {name: value or True for name, value in given.items()}
    if "no-requeue" not in more:
        more["requeue"] = True
    demand = {
        "job_name": name, "partition": options.partition, "nodes": options.nodes_per_run, "ntasks_per_node": 1,
        "cpus_per_task": cpus, "gpus_per_node": gpus or None, "additional_parameters": more,
        "time": slurm_minutes(options.time) if options.time else int(min(longest, _LONGEST)),
        "srun_args": ["--kill-on-bad-exit=1", *([f"--cpus-per-task={cpus}"] if cpus else [])],
    }  # fmt: skip
    return {name: value for name, value in demand.items() if value is not None}, known
