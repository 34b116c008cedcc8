"""Samplers and loaders whose draws depend on seed, epoch and position alone, and that go on where the trainer stands.

Neither workers, nor their number, nor a resume change what is drawn.
"""

from collections.abc import Callable, Iterator, Sized
from itertools import islice
from time import perf_counter
from typing import Any, NamedTuple

from timm.data.distributed_sampler import RepeatAugSampler
from torch import distributed
from torch.utils.data import DataLoader, DistributedSampler

from shvit_pl.compat import cores_of_process

Batch = dict[str, Any]
Progress = Callable[[], int]


class Draw(NamedTuple):
    """A sampler's request to a dataset."""

    row: int
    """Number of the row."""
    key: tuple[int, ...] = ()
    """Seed of its augmentation."""
    counted: bool = True
    """False for padding, which fills up the last batch of some processes and is not evaluated."""


def process() -> tuple[int, int]:
    """Return the number of processes that train together, and this one's rank."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_world_size(), distributed.get_rank()
    return 1, 0


class TrainSampler(DistributedSampler[Any]):
    """A new permutation every epoch, in one process and in many, shared out in turns.

    With `repeats` above 1 every image of it comes that many times in a row, each differently augmented and, where there
    are several processes, in another one, until as many images as the dataset has are drawn (rounded down to a multiple
    of 256; never zero). That is the official repeated augmentation, by timm's sampler. `shares` are the number of
    processes and this one's rank, where they are not those that train together.
    """

    start = 0
    """Draws of the epoch to leave out, those that an interrupted run has had already."""

    def __init__(self, rows: Sized, seed: int, repeats: int = 1, shares: tuple[int, int] | None = None) -> None:
        replicas, rank = shares or process()
        super().__init__(rows, replicas, rank, shuffle=True, seed=seed)  # type: ignore[arg-type]
        self._repeated = RepeatAugSampler(rows, replicas, rank, num_repeats=repeats) if repeats > 1 else None

    def __len__(self) -> int:
        return super().__len__() if self._repeated is None else len(self._repeated)

    def set_epoch(self, epoch: int) -> None:
        """Choose the permutation."""
        super().set_epoch(epoch)
        if self._repeated is not None:
            self._repeated.set_epoch(epoch + 1_000_003 * self.seed)  # seed 0 draws what the official sampler draws

    def __iter__(self) -> Iterator[Draw]:
        """Yield the draws of this process."""
        indices: Iterator[int] = super().__iter__() if self._repeated is None else iter(self._repeated)
        for position, index in islice(enumerate(indices), self.start, None):
            yield Draw(index, (self.seed, self.epoch, position * self.num_replicas + self.rank))


class EvalSampler(DistributedSampler[Any]):
    """Every row once, over all processes; they get equally many draws, of which the surplus ones do not count."""

    def __init__(self, rows: Sized) -> None:
        replicas, rank = process()
        super().__init__(rows, replicas, rank, shuffle=False)  # type: ignore[arg-type]
        self.rows = len(rows)

    def __iter__(self) -> Iterator[Draw]:
        """Yield the draws of this process."""
        for position in range(self.rank, self.total_size, self.num_replicas):
            yield Draw(position % self.rows, counted=position < self.rows)


# ---- loaders


def workers_for(wanted: int | None, device: str) -> int:
    """Return the number of processes that load: on a CPU none by default, as they would take cores from training."""
    default = min(cores_of_process(), 8) if device != "cpu" else 0
    return default if wanted is None else wanted


class _Resumable(DataLoader[Batch]):
    """A loader whose position is the trainer's; so it has no state of its own to keep in a checkpoint."""

    waited = 0.0
    """Seconds from asking for a batch to its being there, of all batches so far."""

    def __init__(self, *args: Any, progress: Progress = lambda: 0, **options: Any) -> None:
        super().__init__(*args, **options)
        self.progress = progress

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
    """Loader of one epoch of a sampler, from the batch whose number in it `progress` returns.

    Workers start with the first batch: only then does the sampler know its epoch.
    """

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        """Yield the epoch's batches."""
        self.sampler.start = self.progress() * (self.batch_size or 1)  # type: ignore[attr-defined]
        yield from self._timed(super().__iter__())


class StreamLoader(_Resumable):
    """Loader of an endless stream in epochs of `steps` batches; the stream goes on from epoch to epoch.

    Of all these, `progress` returns the number of batches that the run has had.
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
