"""The seam between a sweep and the engine that places its runs: start a run, ask whether it has ended, stop it."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


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
    lost: str = ""
    """What happened to the computer that ran it, which is no fault of the run: it goes on elsewhere."""


class Engine(ABC):
    """Places runs on computers, and watches them; `start` returns what the other calls take for a run."""

    host: str | None = None
    """Name or address by which runs reach the driver; None where all run on its computer."""

    @abstractmethod
    def room(self) -> int:
        """Return the number of runs that may go on at a time, which grows where computers join."""

    @abstractmethod
    def start(self, job: Job) -> Any:
        """Start a run, or have it wait for its place."""

    @abstractmethod
    def ended(self, run: Any) -> Ended | None:
        """Return how a run ended; None while it goes on."""

    @abstractmethod
    def stop(self, runs: Sequence[Any]) -> None:
        """End runs and all their processes, and wait until they have ended."""

    @abstractmethod
    def close(self) -> None:
        """Leave the cluster."""
