"""The driver: sees that every point is run, that workers live, and that somebody watches."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from shvit_pl.sweep.engine.pool import Pool
from shvit_pl.sweep.plan.definition import Definition
from shvit_pl.sweep.study.board import Board
from shvit_pl.sweep.study.progress import Status, status_of
from shvit_pl.sweep.study.storage import patiently

_POLL = 0.5  # seconds between two looks at the study


class Terminated(BaseException):
    """The driver got SIGTERM, as from a scheduler whose time is up."""


class Watcher(Protocol):
    """Shows how far a sweep is."""

    def show(self, status: Status) -> None:
        """Show it."""


@dataclass(frozen=True)
class Terms:
    """On which terms a driver drives.

    Attributes:
        retries: How often a point that fails is tried again.
        grace: Seconds after which a silent worker of another machine is taken for dead.
        wait: Stay until the last run of all machines has ended, to take it over if need be.
    """

    retries: int = 1
    grace: float = 60.0
    wait: bool = True


def drive(board: Board, definition: Definition, pool: Pool, terms: Terms, watcher: Watcher) -> Status:
    """Work until every point is done or given up, here or on other machines.

    Args:
        board: The study.
        definition: The sweep.
        pool: Workers to keep alive; they end with this function.
        terms: Retries and patience.
        watcher: Is told how far the sweep is.

    Raises:
        KeyboardInterrupt: on Ctrl-C, when all runs have ended.
        Terminated: on SIGTERM, the same.
    """
    with _signals_raise() as check, pool:
        try:
            while True:
                check()
                status = patiently(lambda: _step(board, definition, terms))
                watcher.show(status)
                ours = [run for run in status.running if pool.does(run.owner)]
                if status.left == 0 or not (terms.wait or status.waiting or ours):
                    return status
                pool.keep(status.left)
                time.sleep(_POLL)
        except (KeyboardInterrupt, Terminated):
            print("stopping the runs ...", flush=True)
            raise


def _step(board: Board, definition: Definition, terms: Terms) -> Status:
    board.reap(terms.grace)
    board.enqueue_missing(definition.points.values(), terms.retries)
    return status_of(board, definition, terms.retries)


@contextmanager
def _signals_raise() -> Iterator[Callable[[], None]]:
    """Ctrl-C and SIGTERM as exceptions; what is given raises one that was swallowed on its way, as destructors do."""
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
