"""A network in ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

from shvit_pl.errors import UserError


def onnx_call(model: nn.Module, images: Tensor) -> Callable[[], Tensor]:
    """A forward pass of an exported network by ONNX Runtime, with torch's number of threads.

    On a GPU it computes there, where ONNX Runtime was built for it; images and logits pass through the CPU's memory.

    Args:
        model: In evaluation mode, on the CPU.
        images: A batch `(B, 3, S, S)` in float32.

    Raises:
        UserError: where ONNX Runtime has nothing for the images' device.
    """
    inputs = images.cpu()
    session = _session(model, inputs, _provider(images.device))
    feed = {session.get_inputs()[0].name: inputs.numpy()}

    def call() -> Tensor:
        return torch.from_numpy(session.run(None, feed)[0])

    return call


def _provider(device: torch.device) -> Any:
    import onnxruntime

    if device.type == "cpu":
        return "CPUExecutionProvider"
    if device.type == "cuda" and "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        return "CUDAExecutionProvider", {"device_id": device.index or 0}
    raise UserError(f"this ONNX Runtime computes nothing on {device.type}")


def _session(model: nn.Module, inputs: Tensor, provider: Any) -> Any:
    import onnxruntime

    from shvit_pl.deploy.export.onnx_format import save

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = torch.get_num_threads(), 1
    options.log_severity_level = 3  # errors
    with TemporaryDirectory(prefix="shvit_pl_onnx_") as folder:
        path = Path(folder) / "model.onnx"
        save(model, inputs, path)
        return onnxruntime.InferenceSession(str(path), options, providers=[provider])
