"""Which process it is, whether it is alive, how it ended, and children that die with their parent."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

_PR_SET_PDEATHSIG = 1
_LONGEST = 300  # characters of an error
_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def this_process() -> dict[str, Any]:
    """What tells this process from any other, on any machine, at any time."""
    return {"host": socket.gethostname(), "pid": os.getpid(), "machine": _machine(), "started": _started(os.getpid())}


def is_alive(process: dict[str, Any]) -> bool | None:
    """Whether a process is there; None where that can't be told, as of another machine's."""
    if process["machine"] is None or not is_of_this_machine(process):
        return None
    return _started(process["pid"]) == process["started"]


def is_of_this_machine(process: Mapping[str, Any]) -> bool:
    """Whether a process is of this machine and container, by the host's name where that is all there is."""
    return (process["machine"], process["host"]) == (_machine(), socket.gethostname())


def start_child(
    command: Sequence[str], output: IO[str], environment: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start a process in a session of its own, which dies with this one and prints into a file."""
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        env=environment,
        start_new_session=True,
        preexec_fn=dying_with_us(),
    )


def dying_with_us() -> Callable[[], None]:
    """A `preexec_fn` that has the system kill a child when this process dies (Linux)."""
    parent = os.getpid()

    def prepare() -> None:
        if _libc is not None:
            _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:  # it died before the system was asked
                os._exit(1)

    return prepare


def how_it_ended(output: str, code: int) -> str:
    """What a process that failed said last, and the signal that killed it, if one did."""
    lines = [line.strip() for line in output.splitlines()]
    said = next((line for line in reversed(lines) if line), "")
    said = "" if said.startswith("$ ") else said[:_LONGEST]
    killed = f"killed by {signal.Signals(-code).name}" if code < 0 else ""
    return "; ".join(part for part in (killed, said) if part) or f"exit code {code}"


def _machine() -> str | None:
    """This boot of this machine, and the container that numbers its processes; None where that can't be told."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return None


def _started(pid: int) -> str | None:
    """When a process started, in the system's clock ticks; None where there is no such process, or only its remains."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]
