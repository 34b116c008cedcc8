"""Loaders that begin where the trainer stands, so that a run interrupted in an epoch goes on at its next batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

from torch.utils.data import DataLoader

Batch = dict[str, Any]
Progress = Callable[[], int]


class _Resumable(DataLoader[Batch]):
    """A loader whose position is the trainer's; so it has no state of its own to keep in a checkpoint."""

    def __init__(self, *args: Any, progress: Progress = lambda: 0, **options: Any) -> None:
        super().__init__(*args, **options)
        self.progress = progress

    def state_dict(self) -> dict[str, Any]:
        """Empty."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Nothing to take."""


class EpochLoader(_Resumable):
    """Loads one epoch of a sampler from the batch that `progress` names.

    Workers start with the first batch that is asked for: only then does the sampler know its epoch.
    """

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        """Yield the epoch's batches."""
        self.sampler.start = self.progress() * (self.batch_size or 1)  # type: ignore[attr-defined]
        yield from super().__iter__()


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
            self.dataset.begin_at(done)  # type: ignore[attr-defined]
            self._running = iter(super().__iter__())
        yield from islice(self._running, self.steps - done % self.steps)
