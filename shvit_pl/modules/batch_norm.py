"""The layers of BatchNorm in a network, and their running statistics in a short training."""

from typing import Any

import torch
from torch import Tensor, nn


def batch_norms(network: nn.Module) -> list[Any]:
    """Return the layers of BatchNorm."""
    kinds = nn.BatchNorm1d | nn.BatchNorm2d | nn.SyncBatchNorm
    return [module for module in network.modules() if isinstance(module, kinds)]


class YoungStatistics:
    """Running statistics of BatchNorm without the mean 0 and variance 1 that a fresh layer begins with.

    After t batches, those still have a share of (1 - momentum)^t: 35 % after ten. Here the share is removed as Adam
    removes it from its averages: batch t moves the statistics by momentum / (1 - (1 - momentum)^t). A layer with
    learned statistics, one in evaluation mode and one that averages all batches alike (momentum None, as in Lightning's
    weight averaging) stays as it is. The weights don't depend on it.
    """

    _LAST_SHARE = 1e-4  # of the initial statistics, below which nothing is corrected

    def __init__(self, network: nn.Module) -> None:
        tracked = [norm for norm in batch_norms(network) if norm.num_batches_tracked is not None and norm.momentum]
        counts = torch.stack([norm.num_batches_tracked for norm in tracked]).tolist() if tracked else []
        self._batches: dict[Any, int] = {
            norm: count for norm, count in zip(tracked, counts, strict=True) if count > 0 or _is_initial(norm)
        }
        self._before: list[tuple[Any, Tensor, Tensor]] = []

    def few(self) -> int | None:
        """Return the batches of a layer that has seen fewer than its average spans, 1 / momentum; None for none."""
        counts = [count for norm, count in self._batches.items() if 0 < count < 1 / (norm.momentum or 1)]
        return min(counts, default=None)

    def before_batch(self) -> None:
        """Copy the statistics of the layers that are corrected, `(C,)` each."""
        self._batches = {
            norm: count
            for norm, count in self._batches.items()
            if (1 - (norm.momentum or 0)) ** count > self._LAST_SHARE
        }
        training = [norm for norm in self._batches if norm.training and norm.momentum]
        self._before = [(norm, norm.running_mean.clone(), norm.running_var.clone()) for norm in training]

    def after_batch(self) -> None:
        """Move the statistics as far as this batch's share of all batches so far."""
        for norm, mean, variance in self._before:
            self._batches[norm] += 1
            further = 1 / (1 - (1 - norm.momentum) ** self._batches[norm])
            norm.running_mean.copy_(mean.lerp_(norm.running_mean, further))
            norm.running_var.copy_(variance.lerp_(norm.running_var, further))
        self._before = []


def _is_initial(norm: Any) -> bool:
    return bool((norm.running_mean == 0).all() and (norm.running_var == 1).all())
