"""A network as ONNX, and in ONNX Runtime."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim

from shvit_pl.errors import UserError

OPSET = 18  # the exporter's own; others it converts


def save(
    model: nn.Module,
    example: Tensor,
    path: Path,
    metadata: Mapping[str, str] | None = None,
    opset: int = OPSET,
    dynamic: bool = True,
) -> None:
    """Write `model` to an `.onnx` file with the input `images` and the output `outputs`.

    Args:
        model: In evaluation mode: images to outputs.
        example: A batch `(B, 3, S, S)`; for a dynamic batch its B does not matter.
        path: The file.
        metadata: Kept as the model's `metadata_props`.
        opset: Version of ONNX's operators.
        dynamic: Take batches of any size instead of B.
    """
    pair = example[:1].expand(2, -1, -1, -1).contiguous() if dynamic else example
    program = torch.onnx.export(
        model,
        (pair,),
        input_names=["images"],
        output_names=["outputs"],
        opset_version=opset,
        dynamic_shapes=({0: Dim("batch")},) if dynamic else None,
        dynamo=True,
        verbose=False,
    )
    assert program is not None, "PyTorch's exporter of torch.export programs returns one"
    program.model.metadata_props.update(metadata or {})
    program.save(path, external_data=False)


class OnnxNetwork(nn.Module):
    """A file of ONNX in ONNX Runtime, with as many threads as torch has now.

    On a GPU it computes there, where ONNX Runtime was built for it; images and outputs pass through the CPU's memory.

    Args:
        path: The file, with the input `images`.
        device: What computes.
        profile: Where to write how long its operators take, when `end_profiling` of its `session` is called.

    Raises:
        UserError: where ONNX Runtime has nothing for the device.
    """

    def __init__(self, path: Path, device: torch.device | str = "cpu", profile: Path | None = None) -> None:
        super().__init__()
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = torch.get_num_threads(), 1
        options.log_severity_level = 3  # errors
        if profile is not None:
            options.enable_profiling, options.profile_file_prefix = True, os.fspath(profile)
        provider = _provider(torch.device(device))
        self.session: Any = onnxruntime.InferenceSession(os.fspath(path), options, providers=[provider])

    def forward(self, images: Tensor) -> Tensor:
        """Map images `(B, 3, S, S)` to outputs `(B, classes)`, on the CPU."""
        (outputs,) = self.session.run(None, {"images": images.numpy(force=True)})
        return torch.from_numpy(outputs)


def onnx_network(model: nn.Module, images: Tensor, profile: Path | None = None) -> OnnxNetwork:
    """The network as ONNX, for batches like this one.

    Args:
        model: In evaluation mode, on the CPU.
        images: A batch `(B, 3, S, S)` in float32, on the device that is to compute.
        profile: As in `OnnxNetwork`.

    Raises:
        UserError: where ONNX Runtime has nothing for the images' device.
    """
    with TemporaryDirectory(prefix="shvit_pl_onnx_") as folder:
        path = Path(folder) / "model.onnx"
        save(model, images.cpu().contiguous(), path, dynamic=False)
        return OnnxNetwork(path, images.device, profile)


def _provider(device: torch.device) -> Any:
    import onnxruntime

    if device.type == "cpu":
        return "CPUExecutionProvider"
    if device.type == "cuda" and "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        return "CUDAExecutionProvider", {"device_id": device.index or 0}
    raise UserError(f"this ONNX Runtime computes nothing on {device.type}")
