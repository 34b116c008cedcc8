"""The seam between a sweep and the engine that places its runs: start a run, ask whether it has ended, stop it."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shvit_pl.errors import UserError


@dataclass(frozen=True)
class Job:
    """A run to be placed."""

    name: str
    """Unique in the sweep; its run folder is called so."""
    command: Sequence[str]
    log: Path
    """The file to which its output is added."""
    environment: Mapping[str, str]
    """Variables beside those of the computer that it runs on."""


@dataclass(frozen=True)
class Ended:
    """The end of a run."""

    code: int
    """The process's exit code; negative for the signal that killed it."""
    where: str = ""
    """The computer that ran it, if that is another than the driver's."""
    lost: bool = False
    """Whether that computer was lost, which is no fault of the run: it goes on elsewhere."""
    reason: str = ""
    """What a scheduler says of the end, beside what the run has printed."""


class Engine(ABC):
    """Places runs on computers, and watches them; `start` returns what the other calls take for a run."""

    host: str | None = None
    """Name or address by which runs reach the driver; None where all run on its computer."""

    @abstractmethod
    def room(self) -> int:
        """Return the number of runs that may go on at a time, which grows where computers join."""

    @abstractmethod
    def start(self, jobs: Sequence[Job]) -> Iterable[Any]:
        """Start runs, or have them wait for their places, and yield each as it is started, in their order.

        Called at every step, also without jobs: then an engine gives back what it has kept for a next run.
        Those that the engine has no room for after all are missing at the end.
        """

    def name(self, run: Any) -> str | None:
        """Return what `attach` finds a run by; None where runs end with the driver."""
        return None

    def attach(self, name: str) -> Any | None:
        """Return a run that goes on although its driver was killed; None where it has ended or can't be found.

        Raises `UserError` where it is another engine's.
        """
        raise UserError(f"--engine: the sweep was killed, and its job {name} may still run; go on with --engine slurm.")

    def has_begun(self, run: Any) -> bool:
        """Return whether a run has got its place, and is no longer waiting for it."""
        return True

    @abstractmethod
    def ended(self, run: Any) -> Ended | None:
        """Return how a run ended; None while it goes on."""

    @abstractmethod
    def stop(self, runs: Sequence[Any]) -> None:
        """End runs and all their processes, and wait until they have ended."""

    @abstractmethod
    def close(self) -> None:
        """Leave the cluster."""
