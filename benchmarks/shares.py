"""Where the time of a call goes."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import onnxruntime
import torch
from torch import Tensor, nn
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from shvit_pl.deploy.formats import save_onnx

_CALLS = 5
_KINDS = {  # what the names of operators and kernels contain
    "convolutions": ("conv", "fprop"),
    "matrix products": ("linear", "mm", "matmul", "gemm", "cutlass"),
}


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
        path = Path(folder) / "model.onnx"
        save_onnx(model, images.cpu().contiguous(), path, dynamic=False)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = torch.get_num_threads(), 1
        options.enable_profiling, options.profile_file_prefix = True, f"{folder}/profile"
        session = onnxruntime.InferenceSession(path, options)
        for _ in range(_CALLS):
            session.run(None, {"images": images.numpy(force=True)})
        events = json.loads(Path(session.end_profiling()).read_text())
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
