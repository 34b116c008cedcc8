"""Samplers, datasets and loaders: draws depend on seed, epoch and position alone, and resume at the trainer's position.

Neither workers, nor their number, nor a resume change what is drawn.
"""

from collections.abc import Callable, Iterator, Sized
from itertools import count, islice
from time import perf_counter
from typing import Any, NamedTuple

import torch
from datasets import Dataset, IterableDataset
from datasets.distributed import split_dataset_by_node
from timm.data.distributed_sampler import RepeatAugSampler
from torch import distributed
from torch.utils.data import DataLoader, DistributedSampler

from shvit_pl.compat import cores_of_process
from shvit_pl.data.decoding import Item, RowReader
from shvit_pl.data.transforms import Batch

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
        for position, index in islice(enumerate(self._rows()), self.start, None):
            yield Draw(index, (self.seed, self.epoch, position * self.num_replicas + self.rank))

    def _rows(self) -> Iterator[int]:
        """Yield the rows of this process's whole epoch."""
        return super().__iter__() if self._repeated is None else iter(self._repeated)


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


# ---- stored rows


class ImageDataset(torch.utils.data.Dataset[Item]):
    """Map-style rows, indexed by `Draw`.

    In training, a broken image is replaced by the next whole one, for the batch to keep its size.
    """

    def __init__(self, rows: Dataset, reader: RowReader, training: bool = False) -> None:
        self.rows = rows
        self.reader = reader
        self.training = training

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, draw: Draw) -> Item:
        if not draw.counted:
            return self.reader.placeholder()
        item = self._read(draw.row, draw.key)
        if not self.training:
            return item
        broken, index = item["broken"], draw.row
        while item["broken"] and (index := (index + 1) % len(self.rows)) != draw.row:
            item = self._read(index, draw.key)
        return {**item, "broken": broken, "key": hash(draw.key)}

    def _read(self, index: int, key: tuple[int, ...]) -> Item:
        return self.reader.read(self.rows[index], f"row {index}", key)


# ---- streams

_MAX_IN_A_ROW = 100  # broken images: far more than a run tolerates


def _worker() -> tuple[int, int]:
    """Return the number of the loader's workers, and this one's number."""
    info = torch.utils.data.get_worker_info()
    return (info.num_workers, info.id) if info is not None else (1, 0)


class _Stream(torch.utils.data.IterableDataset[Item]):
    rows: IterableDataset

    @property
    def shards(self) -> int:
        """Parts of the stream that workers of this process can read at the same time."""
        return int(self.rows.num_shards)


class TrainStream(_Stream):
    """An endless, shuffled stream of training items, shared out over processes and workers.

    Shards are shuffled, and rows within a `buffer`, anew in every pass. Where the shards do not divide by the
    processes, each process reads all rows and keeps its share.
    """

    def __init__(self, rows: IterableDataset, reader: RowReader, seed: int, buffer: int, batch_size: int) -> None:
        replicas, self.rank = process()
        self.rows = split_dataset_by_node(rows.shuffle(seed=seed, buffer_size=buffer), self.rank, replicas)
        self.reader = reader
        self.seed = seed
        self.batch_size = batch_size
        self._done = 0

    def begin_at(self, batches: int) -> None:
        """Leave out batches that the run has had, as many per worker; their rows are read again, but not decoded."""
        self._done = batches

    def __iter__(self) -> Iterator[Item]:
        """Yield items forever; a broken image is replaced by the next whole one."""
        workers, worker = _worker()
        start = self._done // workers * self.batch_size  # workers give batches in turns
        broken: list[tuple[tuple[int, ...], Item]] = []
        for position, row in islice(enumerate(self._passes()), start, None):
            key = (self.seed, self.rank, worker, position)
            item = self.reader.read(row, f"row {position} of worker {worker}", key)
            if item["broken"] and len(broken) < _MAX_IN_A_ROW:
                broken.append((key, item))
                continue
            for its_key, its_item in broken:
                yield {**self.reader.read(row, "", its_key), "broken": its_item["broken"], "key": hash(its_key)}
            broken.clear()
            yield {**item, "key": hash(key)}

    def _passes(self) -> Iterator[dict[str, Any]]:
        """Yield rows forever; nothing if there are none."""
        for number in count():
            self.rows.set_epoch(number)
            rows = iter(self.rows)
            first = next(rows, None)
            if first is None:
                return
            yield first
            yield from rows


class EvalStream(_Stream):
    """A stream of evaluated items, each once over all processes, which get equally many.

    Every process reads all rows, and decodes its share.
    """

    def __init__(self, rows: IterableDataset, reader: RowReader) -> None:
        self.rows = rows
        self.reader = reader
        self.replicas, self.rank = process()

    def __iter__(self) -> Iterator[Item]:
        """Yield the items of this process and worker, and one to fill up where others have one more."""
        _, worker = _worker()
        position = -1
        for position, row in enumerate(self.rows):
            if position % self.replicas == self.rank:
                yield self.reader.read(row, f"row {position} of worker {worker}")
        rest = (position + 1) % self.replicas
        if rest and self.rank >= rest:
            yield self.reader.placeholder()


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
            turn = done % max(1, self.num_workers)  # position in a round of workers, which the first one begins
            self.dataset.begin_at(done - turn)  # type: ignore[attr-defined]
            self._running = islice(super().__iter__(), turn, None)
        yield from self._timed(islice(self._running, self.steps - done % self.steps))
