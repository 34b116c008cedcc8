"""What `speed_test.py` of the official SHViT code does (github.com/ysj9909/SHViT).

It fuses BatchNorm, traces the network, and runs it on random images in NCHW: on a GPU under fp16 autocast, waiting for
the device after every batch; on a CPU in fp32 with one thread. It warms up for 10 seconds, adds up batches until 60
seconds are full, and divides the batch size by their mean.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from shvit_pl.deploy.timing import Rate, Work, wait_for


def official_call(model: nn.Module, images: Tensor) -> Callable[[], Tensor]:
    """The official network on images, to be called."""
    device = images.device
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tracing is deprecated, and what this is about
        network: Any = torch.jit.trace(deepcopy(model).to(device), images)  # type: ignore[no-untyped-call]

    def call() -> Tensor:
        with torch.no_grad(), torch.autocast("cuda", torch.float16, enabled=device.type == "cuda"):
            return network(images)

    return call


def officially_timed(work: Work, warm_up: float, seconds: float) -> Rate:
    """The official timing: batch size over the mean time of a batch.

    Args:
        work: What to time.
        warm_up: Seconds before; the script's are 10.
        seconds: Seconds of batches; the script's are 60.
    """
    start = time.time()
    while time.time() - start < warm_up:
        work.call()
    wait_for(work.device)
    taken, count = 0.0, 0
    while taken < seconds:
        start = time.time()
        work.call()
        wait_for(work.device)
        taken += time.time() - start
        count += 1
    return Rate((work.images * count / taken,))
