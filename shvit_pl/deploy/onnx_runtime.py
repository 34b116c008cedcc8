"""ONNX: a network as one file, weights and labels in it, and the file in ONNX Runtime."""

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


def save(
    model: nn.Module,
    example: Tensor,
    path: Path,
    metadata: Mapping[str, str] | None = None,
    opset: int = 18,  # the exporter's own, from which it converts to others
    dynamic: bool = True,
) -> None:
    """Write an `.onnx` file with the input `images`, the output `outputs` and the metadata as its `metadata_props`.

    Args:
        model: In evaluation mode: images to outputs.
        example: A batch `(B, 3, S, S)`.
        path: The file.
        metadata: Texts to keep.
        opset: Version of ONNX's operators.
        dynamic: Take batches of any size instead of B.
    """
    pair = example[:1].expand(2, -1, -1, -1).contiguous() if dynamic else example  # one image would fix the size
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

    Raises:
        UserError: where ONNX Runtime doesn't support the device.
    """

    def __init__(self, path: Path, device: torch.device | str = "cpu") -> None:
        super().__init__()
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = torch.get_num_threads(), 1
        options.log_severity_level = 3  # errors
        device = torch.device(device)
        provider: Any = "CPUExecutionProvider"
        if device.type != "cpu":
            if device.type != "cuda" or "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
                raise UserError(f"this build of ONNX Runtime doesn't support {device.type}")
            provider = "CUDAExecutionProvider", {"device_id": device.index or 0}
        self.session: Any = onnxruntime.InferenceSession(os.fspath(path), options, providers=[provider])

    def forward(self, images: Tensor) -> Tensor:
        """Map images `(B, 3, S, S)` to outputs `(B, classes)`, on the CPU."""
        (outputs,) = self.session.run(None, {"images": images.numpy(force=True)})
        return torch.from_numpy(outputs)


def onnx_network(model: nn.Module, images: Tensor) -> OnnxNetwork:
    """Convert a network on the CPU to ONNX, for batches like these `(B, 3, S, S)`, and open it on their device."""
    with TemporaryDirectory(prefix="shvit_pl_onnx_") as folder:
        path = Path(folder) / "model.onnx"
        save(model, images.cpu().contiguous(), path, dynamic=False)
        return OnnxNetwork(path, images.device)


load = OnnxNetwork  # as all formats name what runs their files


def describe(path: Path) -> list[str]:
    """Return further lines about a file."""
    import onnx

    model = onnx.load(path, load_external_data=False)
    kinds = Counter(node.op_type for node in model.graph.node)
    most = ", ".join(f"{number} {kind}" for kind, number in kinds.most_common(4))
    opset = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    return [f"opset {opset}, {len(model.graph.node)} operators ({most}, ...); labels in its metadata_props"]
