"""Processes: the only driver of a folder; runs, their environment and end, and that they die with their parent."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from shvit_pl.compat import die_with_parent
from shvit_pl.errors import UserError

try:
    from fcntl import LOCK_EX, LOCK_NB, lockf
except ImportError:  # not on Windows
    lockf = None  # type: ignore[assignment]

# in a sweep folder: the process that is at work in it, which loses its lock where it opens and closes the file again
DRIVER = "driver.lock"

_PATIENCE = 20.0  # seconds for runs to end by themselves
_LINE_LENGTH = 300  # characters of an error


@contextmanager
def only_driver(folder: Path) -> Iterator[None]:
    """Keep a sweep folder for this process; raises `UserError` where another one has it, on any computer."""
    with (folder / DRIVER).open("a+") as file:
        try:
            if lockf is not None:
                lockf(file, LOCK_EX | LOCK_NB)
        except (BlockingIOError, PermissionError) as error:
            file.seek(0)
            raise UserError(
                f"--folder {str(folder)!r}: a sweep is running in it, {file.read().strip()}. Wait for it, or stop it."
            ) from error
        except OSError:  # a file system without locks
            pass
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}, since {datetime.now():%Y-%m-%d %H:%M}\n")
        file.flush()
        os.fsync(file.fileno())  # for other computers
        yield


def kill_on_parent_exit() -> Callable[[], None]:
    """Return a `preexec_fn` that has the system kill a child when this process dies (Linux)."""
    parent = os.getpid()

    def prepare() -> None:
        die_with_parent()
        if os.getppid() != parent:  # it died before the system was asked
            os._exit(1)

    return prepare


def start_process(command: Sequence[str], log: Path, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start a run, which dies with this process, as the leader of a session; its output is added to `log`."""
    with log.open("a") as file:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
            preexec_fn=kill_on_parent_exit(),
        )


def end_processes(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """End processes, each the leader of a session, and their children: by SIGTERM, then by SIGKILL."""
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


def run_environment(environment: Mapping[str, str], gpus: str | None, threads: int | None) -> dict[str, str]:
    """Return the environment of a run: `environment`, its GPUs if it gets some, and its number of threads."""
    # by SLURM's variables, a run would take itself for one of many processes of one training
    kept = {name: value for name, value in environment.items() if not name.startswith(("SLURM_", "PMI"))}
    kept["PYTHONUNBUFFERED"] = "1"
    if threads is not None:
        kept["OMP_NUM_THREADS"] = str(threads)
    if gpus is not None:
        kept["CUDA_VISIBLE_DEVICES"] = gpus
    return kept


def describe_exit(output: str, code: int) -> str:
    """Return the signal that killed a process, if one did, and the last line that it printed."""
    lines = [line.strip() for line in output.splitlines()]
    last = next((line for line in reversed(lines) if line), "")
    last = "" if last.startswith("$ ") else last[:_LINE_LENGTH]  # its own command
    killed = f"killed by {signal.Signals(-code).name}" if code < 0 else ""
    return "; ".join(part for part in (killed, last) if part) or f"exit code {code}"
