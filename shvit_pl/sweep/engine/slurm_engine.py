"""Runs as SLURM jobs, by submitit; the sweep's folder is on a file system that all nodes share."""

import os
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import submitit
from submitit.core.utils import UncompletedJobError

from shvit_pl.errors import UserError, first_line
from shvit_pl.sweep.engine.engines import Ended, Engine, Job
from shvit_pl.sweep.options import SweepOptions
from shvit_pl.sweep.processes import end_processes, kill_on_parent_exit, run_environment

_FOLDER = "slurm"  # in the sweep folder: what submitit writes
_PATIENCE = 60.0  # seconds for jobs to end
_PORTS = range(20_000, 50_000)


@dataclass
class _Task:
    """A run's part on a node; SLURM may stop and requeue it, and then it goes on from its last checkpoint."""

    job: Job
    nodes: int
    process: Any = field(default=None, repr=False)

    def __call__(self) -> int:
        """Run `fit`, and return its exit code."""
        environment, command = submitit.JobEnvironment(), [*self.job.command]
        variables = dict(self.job.environment)
        if self.nodes > 1:
            command.append(f"--trainer.num_nodes={self.nodes}")
            port = _PORTS[int("".join(filter(str.isdecimal, environment.job_id)) or 0) % len(_PORTS)]
            variables |= {"MASTER_ADDR": environment.hostnames[0], "MASTER_PORT": str(port)}
            variables |= {"NODE_RANK": str(environment.global_rank)}
        with self.job.log.open("a") as log:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=run_environment(os.environ, None, None) | variables,
                start_new_session=True,
                preexec_fn=kill_on_parent_exit(),
            )
        return int(self.process.wait())

    def checkpoint(self) -> submitit.helpers.DelayedSubmission:
        """End the process, and return what SLURM runs again."""
        end_processes([self.process])
        return submitit.helpers.DelayedSubmission(_Task(self.job, self.nodes))


class SlurmEngine(Engine):
    """SLURM, or, with `cluster` local, processes that submitit starts here.

    Raises `UserError` where there is no SLURM, or it refuses the options.
    """

    def __init__(self, options: SweepOptions, folder: Path, cluster: str | None = "slurm") -> None:
        self.workers, self.nodes = options.workers or 64, options.nodes_per_run
        self.host = os.uname().nodename
        try:
            self.executor = submitit.AutoExecutor(str(folder / _FOLDER), cluster=cluster)
            demand: dict[str, Any] = {
                "name": "shvit-pl", "nodes": self.nodes, "tasks_per_node": 1, "cpus_per_task": options.cpus_per_run or 1,
                "timeout_min": options.time,
            }  # fmt: skip
            if options.gpus_per_run:
                demand["gpus_per_node"] = int(options.gpus_per_run)
            if cluster == "slurm":
                demand["slurm_partition"] = options.partition
                demand["slurm_additional_parameters"] = dict(options.slurm_pairs)
            self.executor.update_parameters(**{name: value for name, value in demand.items() if value is not None})
        except (RuntimeError, ValueError, TypeError) as error:
            raise UserError(
                f"--engine slurm: {first_line(error)}. Run it where sbatch is, or give --engine local."
            ) from error

    def room(self) -> int:
        """Return `--workers`, or 64: the others wait here."""
        return self.workers

    def start(self, jobs: Sequence[Job]) -> list[Any]:
        """Submit an array of jobs."""
        with self.executor.batch():
            return [self.executor.submit(_Task(job, self.nodes)) for job in jobs]

    def ended(self, run: Any) -> Ended | None:
        """Return how a job ended."""
        if not run.done():
            return None
        try:
            return Ended(int(run.result()))
        except UncompletedJobError:
            return Ended(1, f"SLURM has ended job {run.job_id} ({run.state})")
        except Exception as error:
            return Ended(1, f"job {run.job_id}: {first_line(error)}")

    def stop(self, runs: Sequence[Any]) -> None:
        """Cancel jobs, and wait until they have ended."""
        for run in runs:
            run.cancel(check=False)
        until = time.monotonic() + _PATIENCE
        while time.monotonic() < until and not all(run.done(force_check=True) for run in runs):
            time.sleep(1)

    def stop_left_over(self, names: Sequence[str]) -> None:
        """Cancel the jobs of a driver that was killed."""
        with suppress(FileNotFoundError):
            subprocess.run(["scancel", *names], check=False, capture_output=True)

    def close(self) -> None:
        """Do nothing."""
