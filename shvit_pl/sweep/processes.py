"""Processes: their identity, whether they live, how they ended, and children that die with their parent."""

import ctypes
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

_PR_SET_PDEATHSIG = 1
_LINE_LENGTH = 300  # characters of an error
_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def this_process() -> dict[str, Any]:
    """Return what identifies this process among all others, on any machine, at any time."""
    try:  # this boot of this machine, and the container that numbers its processes
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        machine = f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        machine = None
    return {"host": socket.gethostname(), "pid": os.getpid(), "machine": machine, "started": _started(os.getpid())}


def is_alive(process: dict[str, Any]) -> bool | None:
    """Return whether a process lives; None where that can't be told, as for another machine's."""
    here = this_process()
    if process["machine"] is None or any(process[name] != here[name] for name in ("machine", "host")):
        return None
    return _started(process["pid"]) == process["started"]


def _started(pid: int) -> str | None:
    """Return when a process started, in the system's clock ticks; None for one that is gone or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]


def kill_on_parent_exit() -> Callable[[], None]:
    """Return a `preexec_fn` that has the system kill a child when this process dies (Linux)."""
    parent = os.getpid()

    def prepare() -> None:
        if _libc is not None:
            _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:  # it died before the system was asked
                os._exit(1)

    return prepare


def describe_exit(output: str, code: int) -> str:
    """Return the signal that killed a process, if one did, and the last line that it printed."""
    lines = [line.strip() for line in output.splitlines()]
    last = next((line for line in reversed(lines) if line), "")
    last = "" if last.startswith("$ ") else last[:_LINE_LENGTH]  # its own command
    killed = f"killed by {signal.Signals(-code).name}" if code < 0 else ""
    return "; ".join(part for part in (killed, last) if part) or f"exit code {code}"
