"""Loaders that begin where the trainer stands, so that a run interrupted in an epoch goes on at its next batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from time import perf_counter
from typing import Any

import torch
from torch.utils.data import DataLoader

from shvit_pl.cores import cores_of_process

Batch = dict[str, Any]
Progress = Callable[[], int]


def workers_for(asked: int | None, device: str) -> int:
    """Return the number of processes that load: on a CPU none by default, as they would take cores from training."""
    if asked is not None:
        return asked
    return min(cores_of_process(), 8) if device != "cpu" else 0


def options(batch_size: int, workers: int, prefetch: int, device: str) -> dict[str, Any]:
    """Return the options of every loader; each draws from a generator of its own, and nothing from the run's."""
    return {
        "batch_size": batch_size,
        "num_workers": workers,
        "persistent_workers": workers > 0,
        "prefetch_factor": prefetch if workers else None,
        "generator": torch.Generator(),
        "pin_memory": device == "cuda",  # from which Lightning copies without waiting
    }


class _Resumable(DataLoader[Batch]):
    """A loader whose position is the trainer's; so it has no state of its own to keep in a checkpoint.

    Attributes:
        waited: Seconds from asking for a batch to its being there, of all batches so far.
    """

    def __init__(self, *args: Any, progress: Progress = lambda: 0, **options: Any) -> None:
        super().__init__(*args, **options)
        self.progress = progress
        self.waited = 0.0

    def _timed(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        while True:
            since = perf_counter()
            batch = next(batches, None)
            self.waited += perf_counter() - since
            if batch is None:
                return
            yield batch

    def state_dict(self) -> dict[str, Any]:
        """Return nothing: the trainer keeps the position."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take nothing."""


class EpochLoader(_Resumable):
    """Loads one epoch of a sampler from the batch that `progress` names.

    Workers start with the first batch that is asked for: only then does the sampler know its epoch.
    """

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        """Yield the epoch's batches."""
        self.sampler.start = self.progress() * (self.batch_size or 1)  # type: ignore[attr-defined]
        yield from self._timed(super().__iter__())


class StreamLoader(_Resumable):
    """Loads an endless stream in epochs of `steps` batches; the stream goes on from epoch to epoch.

    Args:
        steps: Batches of an epoch.
        progress: Batches that the run has had, over all epochs.
        args: As for `DataLoader`.
        options: As for `DataLoader`.
    """

    def __init__(self, *args: Any, steps: int, **options: Any) -> None:
        super().__init__(*args, **options)
        self.steps = steps
        self._running: Iterator[Batch] | None = None

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        """Yield the batches of one epoch, or what is left of it."""
        done = self.progress()
        if self._running is None:
            turn = done % max(1, self.num_workers)  # in a round of workers, of which the first one begins
            self.dataset.begin_at(done - turn)  # type: ignore[attr-defined]
            self._running = islice(super().__iter__(), turn, None)
        yield from self._timed(islice(self._running, self.steps - done % self.steps))
