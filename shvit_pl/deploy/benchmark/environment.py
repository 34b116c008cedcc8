"""Under which conditions was measured: what must be equal for two benchmarks to be compared."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import torch

from shvit_pl.deploy.benchmark.memory import PEAK_OF
from shvit_pl.deploy.benchmark.options import Options
from shvit_pl.deploy.measuring import machine, num_threads


def conditions(options: Options, device: torch.device) -> dict[str, Any]:
    """All that a figure depends on beside its row; equal for measurements that may be compared.

    Args:
        options: What was asked for.
        device: What computes, its threads set.
    """
    return {
        "task": "train" if options.train else "infer",
        "protocol": options.protocol,
        "blocks": None if options.protocol == "official" else options.blocks,
        "seconds": options.seconds,
        "warm_up": options.warm_up or "until it gets no faster",
        **machine(device),
    }


_TASKS = {
    True: "a step of training: official as engine.py, eager and compiled as timm's script, optimized as fit does it",
    False: "a forward pass without gradients",
}


def explained(device: torch.device, train: bool) -> dict[str, str]:
    """What the figures mean."""
    return {
        "images_per_second": "the median of the blocks; _q1 and _q3 are their quartiles",
        "ms": "of a batch: the batch size over images_per_second",
        "clock": "CUDA events around a block" if device.type == "cuda" else "wall clock around a block",
        "ratio": "to the first row with the same batch size and image_size asked for",
        "peak_memory": PEAK_OF.get(device.type, "not known"),
        "params, macs": "of ours in closed form, BatchNorm not fused; of timm's models as reparameterised",
        "images": "random; in the row's dtype and channels-last, but for optimized in the layout that it takes, and "
        "for official in float32 and NCHW",
        "task": _TASKS[train],
    }


def threads(options: Options, device: torch.device) -> AbstractContextManager[None]:
    """Set torch's threads as asked for; the official protocol has one on a CPU."""
    official = options.protocol == "official" and device.type == "cpu"
    return num_threads(1 if official else options.threads)
