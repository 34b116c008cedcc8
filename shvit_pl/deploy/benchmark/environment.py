"""Under which conditions was measured: what must be equal for two benchmarks to be compared."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from shvit_pl.deploy.benchmark.memory import PEAK_OF
from shvit_pl.deploy.benchmark.options import Options
from shvit_pl.deploy.device import device_name, processor
from shvit_pl.errors import UserError

_LIBRARIES = ("timm", "triton", "onnxruntime", "numpy")


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


def machine(device: torch.device) -> dict[str, Any]:
    """The device, the threads as they are set, and the libraries."""
    return {
        "device": device_name(device),
        "device_type": device.type,
        "processor": processor(),
        "threads": torch.get_num_threads(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "cuda": torch.version.cuda if device.type == "cuda" else None,
        "cudnn": _cudnn() if device.type == "cuda" else None,
        "tf32": torch.backends.cuda.matmul.allow_tf32 if device.type == "cuda" else None,
        "cudnn_tf32": torch.backends.cudnn.allow_tf32 if device.type == "cuda" else None,
        "cudnn_benchmark": torch.backends.cudnn.benchmark if device.type == "cuda" else None,
        "torch": torch.__version__,
        **{name: _version(name) for name in _LIBRARIES},
    }


def _cudnn() -> Any:
    return torch.backends.cudnn.version()  # type: ignore[no-untyped-call]


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


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


def difference(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> str | None:
    """What differs between two measurements' conditions, in a few words; `None` where nothing does."""
    every = [key for key in {**ours, **theirs} if ours.get(key) != theirs.get(key)]
    if not every:
        return None
    shown = "; ".join(f"{key} is {theirs.get(key)} there and {ours.get(key)} here" for key in every[:3])
    return shown + ("" if len(every) <= 3 else f"; and {len(every) - 3} more")


def threads(options: Options, device: torch.device) -> AbstractContextManager[None]:
    """Set torch's threads as asked for; the official protocol has one on a CPU."""
    official = options.protocol == "official" and device.type == "cpu"
    return in_so_many_threads(1 if official else options.threads)


@contextmanager
def in_so_many_threads(asked: int | None) -> Iterator[None]:
    """Set torch's threads for a while; `None` leaves them."""
    before = torch.get_num_threads()
    if asked is not None and asked > 4096:
        raise UserError(f"--threads {asked}: allowed are 1 to 4096.")
    torch.set_num_threads(asked or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
