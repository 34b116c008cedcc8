"""The driver of a sweep: enqueues what is missing, keeps workers alive, and shows the progress."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from shvit_pl.sweep.engine.pool import Pool
from shvit_pl.sweep.engine.reading import Status, read_status
from shvit_pl.sweep.engine.storage import retry_while_unavailable
from shvit_pl.sweep.engine.sweep_study import SweepStudy
from shvit_pl.sweep.plan.definition import Definition

_POLL = 0.5  # seconds between two looks at the study


class Terminated(BaseException):
    """The driver got SIGTERM, as from a scheduler whose time is up."""


class Watcher(Protocol):
    """Shows the progress of a sweep."""

    def show(self, status: Status) -> None:
        """Show the progress."""


@dataclass(frozen=True)
class DriverConfig:
    """Options of the sweep driver."""

    retries: int = 1
    """Number of times that a point which fails is tried again."""
    grace: float = 60.0
    """Seconds after which a silent worker of another machine is taken for dead."""
    wait: bool = True
    """Stay until the last run of all machines has ended, to take it over if need be."""


def drive(study: SweepStudy, definition: Definition, pool: Pool, config: DriverConfig, watcher: Watcher) -> Status:
    """Work until every point is done or given up, here or on other machines.

    Args:
        study: The sweep's study.
        definition: The sweep.
        pool: Workers to keep alive; they end with this function.
        config: Retries and patience.
        watcher: Shows the progress.

    Raises:
        KeyboardInterrupt: on Ctrl-C, when all runs have ended.
        Terminated: on SIGTERM, the same.
    """
    with _signals_raise() as check, pool:
        try:
            while True:
                check()
                status = retry_while_unavailable(lambda: _step(study, definition, config))
                watcher.show(status)
                ours = [run for run in status.running if pool.owns(run.owner)]
                if status.left == 0 or not (config.wait or status.waiting or ours):
                    return status
                pool.keep(status.left)
                time.sleep(_POLL)
        except (KeyboardInterrupt, Terminated):
            print("stopping the runs ...", flush=True)
            raise


def _step(study: SweepStudy, definition: Definition, config: DriverConfig) -> Status:
    study.end_abandoned(config.grace)
    study.enqueue_missing(definition.points.values(), config.retries)
    return read_status(study, definition, config.retries)


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
