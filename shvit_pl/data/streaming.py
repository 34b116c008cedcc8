"""Streams of rows, for datasets that do not fit on the disk."""

from collections.abc import Iterator
from itertools import count, islice
from typing import Any

from datasets import IterableDataset
from datasets.distributed import split_dataset_by_node
from torch.utils.data import IterableDataset as TorchIterableDataset
from torch.utils.data import get_worker_info

from shvit_pl.data.dataset import Item, RowReader
from shvit_pl.data.loaders import process

_MAX_IN_A_ROW = 100  # broken images: far more than a run bears


def _worker() -> tuple[int, int]:
    """Return the number of the loader's workers, and this one's number."""
    info = get_worker_info()
    return (info.num_workers, info.id) if info is not None else (1, 0)


class _Stream(TorchIterableDataset[Item]):
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
