"""The processes of a sweep, found as a system's administrator would: by its folder in their command lines."""

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

RUN = "--run_name="


def processes_of(folder, kind=""):
    """Ids of the living processes of a sweep, of one kind or all."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal() or int(entry.name) == os.getpid():
            continue
        with suppress(OSError):
            command = (entry / "cmdline").read_bytes().decode(errors="replace")
            is_dead = (entry / "stat").read_text().rpartition(")")[2].split()[0] in "ZX"
            if f"{folder}" in command and kind in command and not is_dead:
                found.append(int(entry.name))
    return found


def children_of(process):
    """Ids of the processes that a process started."""
    with suppress(OSError):
        return [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]
    return []


def kill(process):
    """Kill a process if it is there."""
    with suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)


def wait_until(condition, seconds=20.0):
    """Whether it came to be so in that time."""
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
    return True
