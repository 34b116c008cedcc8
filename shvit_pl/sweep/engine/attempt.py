"""One attempt at a point: a process that is watched, while its worker gives signs of life."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError

from shvit_pl.sweep.processes import how_it_ended, start_child
from shvit_pl.sweep.study.board import Board
from shvit_pl.sweep.study.trials import BEAT

_POLL = 0.1  # seconds between two looks at the process
_PATIENCE = 20.0  # seconds for a process to end by itself


class Stopped(BaseException):
    """The worker is to stop; not an error that anything should catch on the way."""


class Attempt:
    """Runs a trial's command.

    Args:
        board: The study.
        number: The trial.
        heartbeat: Seconds between two signs of life.
    """

    def __init__(self, board: Board, number: int, heartbeat: float) -> None:
        self.board = board
        self.number = number
        self.heartbeat = heartbeat
        self._beats = 0

    def run(self, command: Sequence[str], log: Path) -> tuple[int, str | None]:
        """Run a command to its end, with its output added to `log`.

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
            code = self._watch(process)
        except BaseException:
            end_group(process)
            raise
        return code, None if code == 0 else how_it_ended(log.read_text(errors="replace"), code)

    def _watch(self, process: subprocess.Popen[bytes]) -> int:
        """Wait for the end, and give signs of life; a trial that was given to another worker is stopped."""
        due = time.monotonic()
        while True:
            if time.monotonic() >= due:
                due = time.monotonic() + self.heartbeat
                if not self._beat():
                    end_group(process)
            with suppress(subprocess.TimeoutExpired):
                return process.wait(_POLL)

    def _beat(self) -> bool:
        """Give a sign of life; false where the trial is not ours any more."""
        self._beats += 1
        try:
            self.board.note(self.number, {BEAT: self._beats})
        except UpdateFinishedTrialError:
            return False
        except StorageInternalError:  # a database that is away for a while
            pass
        return True


def end_group(process: subprocess.Popen[bytes]) -> None:
    """End a process and its children: asked first, then killed."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(_PATIENCE)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
