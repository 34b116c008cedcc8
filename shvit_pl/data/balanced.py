"""A sampler that draws classes of very different sizes equally often."""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from shvit_pl.data.loaders import TrainSampler
from shvit_pl.randomness import generator_of


class BalancedSampler(TrainSampler):
    """As many draws of each class in every epoch, up to one, in a new order; the epoch keeps its length.

    The image of a class is drawn with replacement. `labels` `(N,)` are the rows' classes; those without a row are none.
    """

    def __init__(self, labels: NDArray[np.int64], seed: int, shares: tuple[int, int] | None = None) -> None:
        super().__init__(labels, seed, shares=shares)
        counts = np.bincount(labels)
        self._order = torch.from_numpy(np.argsort(labels, kind="stable"))  # the rows, class by class
        self._counts = torch.from_numpy(counts[counts > 0])
        self._starts = self._counts.cumsum(0) - self._counts

    def _rows(self) -> Iterator[int]:
        generator = generator_of(self.seed, self.epoch)
        classes = torch.randperm(len(self._counts), generator=generator)  # its first ones may have one draw more
        drawn = classes[torch.arange(self.total_size) % len(classes)]
        drawn = drawn[torch.randperm(self.total_size, generator=generator)]
        shares = torch.rand(self.total_size, generator=generator, dtype=torch.float64)
        rows = self._order[self._starts[drawn] + (shares * self._counts[drawn]).long()]
        return iter(rows[self.rank :: self.num_replicas].tolist())
