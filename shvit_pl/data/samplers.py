"""Sampling that depends on seed, epoch and position alone: not on workers, on their number, or on a resume."""

from __future__ import annotations

from collections.abc import Iterator, Sized
from itertools import islice
from typing import Any, NamedTuple

from timm.data.distributed_sampler import RepeatAugSampler
from torch import distributed
from torch.utils.data import DistributedSampler


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
    of 256; never zero). That is the official repeated augmentation, by timm's sampler.

    Args:
        rows: The dataset.
        seed: Seed of permutations and augmentations.
        repeats: Augmented copies of an image in an epoch.
        shares: Number of processes and this one's rank, where they are not those that train together.

    Attributes:
        start: Draws of the epoch to leave out, those that an interrupted run has had already.
    """

    def __init__(self, rows: Sized, seed: int, repeats: int = 1, shares: tuple[int, int] | None = None) -> None:
        replicas, rank = shares or process()
        super().__init__(rows, num_replicas=replicas, rank=rank, shuffle=True, seed=seed)  # type: ignore[arg-type]
        self.start = 0
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
        super().__init__(rows, num_replicas=replicas, rank=rank, shuffle=False)  # type: ignore[arg-type]
        self.rows = len(rows)

    def __iter__(self) -> Iterator[Draw]:
        """Yield the draws of this process."""
        for position in range(self.rank, self.total_size, self.num_replicas):
            yield Draw(position % self.rows, counted=position < self.rows)
