"""Sampling that depends on seed, epoch and image alone: not on workers, on their number, or on a resume."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from datasets import Dataset
from torch import distributed
from torch.utils.data import DistributedSampler

Draw = tuple[int, int]  # the image's index and the seed of its augmentation


class SeededSampler(DistributedSampler[Any]):
    """A new permutation every epoch, in one process and in many, and a seed for every image in it."""

    def __init__(self, dataset: Dataset, seed: int) -> None:
        ready = distributed.is_available() and distributed.is_initialized()
        replicas, rank = (distributed.get_world_size(), distributed.get_rank()) if ready else (1, 0)
        super().__init__(dataset, num_replicas=replicas, rank=rank, shuffle=True, seed=seed)

    def __iter__(self) -> Iterator[Draw]:
        """Yield (index, augmentation seed)."""
        for index in super().__iter__():
            yield index, hash((self.seed, self.epoch, index)) % 2**63
