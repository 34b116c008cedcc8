"""Pruning: a run of a search reports its metric after each epoch to the driver, and ends when the pruner stops it.

Optuna's gRPC proxy can't serve a journal, and asks nobody who they are. Ours is a socket of the standard library, in
the file system for runs on this computer, and with a key that only the sweep's runs know.
"""

import json
import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Connection, Listener, answer_challenge, deliver_challenge
from threading import Lock, Thread
from typing import Any

import lightning as L

KEY_VARIABLE = "SHVIT_PL_SWEEP_KEY"  # in the environment of runs
_PATIENCE = 60.0  # seconds that a run waits for an answer


class PruneTrial(L.Callback):
    """Ends a run that the pruner stops; its run folder is complete, with fewer steps than planned.

    `address` is where the driver listens: a path, or HOST:PORT. Without its answer the run goes on.
    """

    def __init__(self, address: str, trial: int, metric: str) -> None:
        self.address, self.trial, self.metric = address, trial, metric

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Report the metric; between two epochs, ask the pruner whether to go on."""
        if trainer.state.fn != "fit" or trainer.sanity_checking:
            return
        prune, epoch = False, trainer.current_epoch + 1
        if trainer.is_global_zero:
            value = trainer.callback_metrics[self.metric].item()
            with suppress(OSError, EOFError, AuthenticationError):  # the driver is gone
                prune = self._ask(value, epoch) and epoch != trainer.max_epochs
        if trainer.strategy.broadcast(prune):
            trainer.should_stop = True

    def _ask(self, value: float, epoch: int) -> bool:
        host, _, port = self.address.rpartition(":")
        with Client((host, int(port)) if host else self.address, authkey=os.environ[KEY_VARIABLE].encode()) as driver:
            driver.send_bytes(json.dumps([self.trial, value, epoch]).encode())
            return driver.poll(_PATIENCE) and driver.recv_bytes() == b"stop"


class PruneServer:
    """Answers the runs of a sweep from a thread of the driver: `report` takes a trial, a value and an epoch.

    With `host` it listens there, for other computers; without, in the file system.
    """

    def __init__(self, report: Callable[[int, float, int], bool], host: str | None = None) -> None:
        self._closed = False
        self.key = secrets.token_hex(16)
        where: dict[str, Any] = {"family": "AF_UNIX"}
        if host is not None:  # a name may be that of the loopback here, and another's address elsewhere
            where = {"address": (host if host.replace(".", "").isdecimal() else "", 0)}
        self._report, self._host, self._listener, self._lock = report, host, Listener(**where), Lock()
        Thread(target=self._serve, daemon=True).start()

    @property
    def address(self) -> str:
        """Where it listens, for `PruneTrial`."""
        where = self._listener.address
        return where if isinstance(where, str) else f"{self._host}:{where[1]}"

    def close(self) -> None:
        """Listen no more."""
        self._closed = True
        self._listener.close()

    def _serve(self) -> None:
        while not self._closed:
            with suppress(OSError):  # closed, or a stranger that is gone already
                Thread(target=self._answer, args=(self._listener.accept(),), daemon=True).start()

    def _answer(self, run: Connection) -> None:
        """Answer one report, in a thread of its own: who says nothing keeps nobody waiting."""
        with suppress(Exception), run:  # a run that was killed or whose trial has ended, or a stranger
            if self._closed:
                return
            deliver_challenge(run, self.key.encode())
            answer_challenge(run, self.key.encode())
            trial, value, epoch = json.loads(run.recv_bytes())
            with self._lock:
                stops = self._report(trial, value, epoch)
            run.send_bytes(b"stop" if stops else b"go on")
