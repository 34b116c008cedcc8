"""What a device can do at most, what a network asks of it, and where the time goes."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from shvit_pl.deploy.onnx_runtime import onnx_network
from shvit_pl.deploy.timing import Work, side_by_side

_SIDE = 2048  # of the matrices
_NUMBERS = 2**26  # of the copy: far more than any cache holds
_CALLS = 5
_KINDS = {  # what the names of operators and kernels contain
    "convolutions": ("conv", "fprop"),
    "matrix products": ("linear", "mm", "matmul", "gemm", "cutlass"),
}


def peaks(device: torch.device, dtype: torch.dtype) -> tuple[float, float]:
    """FLOP/s of a large matrix product, and bytes/s (read and written) of a large copy."""
    matrix = torch.randn(_SIDE, _SIDE, device=device).to(dtype)
    source, target = (torch.zeros(_NUMBERS, device=device) for _ in range(2))
    work = {
        "product": Work(lambda: matrix @ matrix, 1, device),
        "copy": Work(lambda: target.copy_(source), 1, device),
    }
    rates = side_by_side(work, rounds=5, seconds=0.3)
    return 2 * _SIDE**3 * rates["product"].median, 2 * source.nbytes * rates["copy"].median


@torch.inference_mode()
def bytes_moved(model: nn.Module, images: Tensor) -> int:
    """Bytes of every layer's input, output and weights: the traffic if each layer reads and writes them once."""
    total = 0

    def count(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal total
        tensors = (*inputs, output, *layer.parameters(recurse=False))
        total += sum(tensor.nbytes for tensor in tensors)

    layers = [layer for layer in model.modules() if not list(layer.children())]
    handles = [layer.register_forward_hook(count) for layer in layers]
    model(images)
    for handle in handles:
        handle.remove()
    return total


@torch.inference_mode()
def shares(call: Callable[[], Any], device: torch.device) -> dict[str, float]:
    """Shares of the time by kind of work; what is neither convolution nor product is elementwise, norms and copies."""
    activities = [ProfilerActivity.CUDA if device.type == "cuda" else ProfilerActivity.CPU]
    call()
    with profile(activities=activities) as profiler:
        for _ in range(_CALLS):
            call()
    times: Counter[str] = Counter()
    for event in profiler.key_averages():
        on_gpu = event.device_type == DeviceType.CUDA
        times[_kind(event.key)] += event.self_device_time_total if on_gpu else event.self_cpu_time_total
    return _shares(times)


def onnx_shares(model: nn.Module, images: Tensor) -> dict[str, float]:
    """The same of a network in ONNX Runtime, by its own profiler."""
    with TemporaryDirectory() as folder:
        network = onnx_network(model, images, Path(folder) / "profile")
        for _ in range(_CALLS):
            network(images)
        events = json.loads(Path(network.session.end_profiling()).read_text())
    times: Counter[str] = Counter()
    for event in events:
        if event["name"].endswith("_kernel_time"):
            times[_kind(event["args"]["op_name"].lower())] += event["dur"]
    return _shares(times)


def _shares(times: Counter[str]) -> dict[str, float]:
    whole = sum(times.values())
    return {kind: times[kind] / whole for kind in (*_KINDS, "other work")}


def _kind(name: str) -> str:
    return next((kind for kind, parts in _KINDS.items() if any(part in name for part in parts)), "other work")
