"""ONNX: a network as one file, weights and labels in it, and the file in ONNX Runtime."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim

from shvit_pl.errors import UserError

OPSET = 18  # the exporter's own, from which it converts to others


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
        metadata: Texts to keep as the model's `metadata_props`.
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
    """An ONNX file in ONNX Runtime, with as many threads as torch has now.

    It computes on a GPU where ONNX Runtime was built for it; images and outputs pass through the CPU's memory.

    Args:
        path: The file, with the input `images`.
        device: The device that computes.
        profile: File for the times of its operators, written when `end_profiling` of its `session` is called.

    Raises:
        UserError: where ONNX Runtime doesn't support the device.
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
    """Convert a network to ONNX, for batches like this one, and open it in ONNX Runtime.

    Args:
        model: In evaluation mode, on the CPU.
        images: A batch `(B, 3, S, S)` in float32, on the device that computes.
        profile: File for the times of its operators, as in `OnnxNetwork`.

    Raises:
        UserError: where ONNX Runtime doesn't support the images' device.
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


def load(path: Path) -> OnnxNetwork:
    """Return the network of a file, run by onnxruntime on the CPU with as many threads as torch."""
    return OnnxNetwork(path)


def read_metadata(path: Path) -> dict[str, str]:
    """Return the metadata that `save` wrote."""
    import onnx

    return {entry.key: entry.value for entry in onnx.load(path).metadata_props}


def write_metadata(path: Path, metadata: Mapping[str, str]) -> None:
    """Replace the metadata of a file."""
    import onnx

    model = onnx.load(path)
    onnx.helper.set_model_props(model, dict(metadata))
    onnx.save(model, path)


def describe(path: Path) -> list[str]:
    """Return further lines about a file."""
    import onnx

    model = onnx.load(path, load_external_data=False)
    counted = Counter(node.op_type for node in model.graph.node).most_common(4)
    most = ", ".join(f"{number} {name}" for name, number in counted)
    opset = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    return [f"opset {opset}, {len(model.graph.node)} operators ({most}, ...); labels in its metadata_props"]


def example_of_use(path: Path, images: str) -> str:
    """Return one line of Python that runs a file."""
    return f"import onnxruntime as ort; ort.InferenceSession({str(path)!r}).run(None, {{'images': {images}.numpy()}})"
