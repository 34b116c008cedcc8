"""A sampler that draws classes of very different sizes equally often."""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from shvit_pl.data.loaders import TrainSampler
from shvit_pl.randomness import generator_of


class BalancedSampler(TrainSampler):
    """As many draws of each class in every epoch, up to one, in a new order; the epoch keeps its length.

    Of a large class an epoch draws a part, another each time; the images of a small one come repeatedly, all equally
    often, up to one. `labels` `(N,)` are the rows' classes; a class without rows is none.
    """

    def __init__(self, labels: NDArray[np.int64], seed: int, shares: tuple[int, int] | None = None) -> None:
        super().__init__(labels, seed, shares=shares)
        counts, order = np.bincount(labels), np.argsort(labels, kind="stable")
        sizes = counts[counts > 0].tolist()
        self._rows_of = torch.from_numpy(order).split(sizes)  # type: ignore[no-untyped-call]

    def _rows(self) -> Iterator[int]:
        generator, classes = generator_of(self.seed, self.epoch), len(self._rows_of)
        draws = torch.full((classes,), self.total_size // classes)
        draws[torch.randperm(classes, generator=generator)[: self.total_size % classes]] += 1
        drawn = [_repeated(rows, int(count), generator) for rows, count in zip(self._rows_of, draws, strict=True)]
        order = torch.randperm(self.total_size, generator=generator)
        return iter(torch.cat(drawn)[order][self.rank :: self.num_replicas].tolist())


def _repeated(rows: Tensor, count: int, generator: Generator) -> Tensor:
    """Return so many of the rows: permutations of all, one after the other."""
    passes = [torch.randperm(len(rows), generator=generator) for _ in range(-(-count // len(rows)))]
    return rows[torch.cat(passes)[:count]] if passes else rows[:0]
