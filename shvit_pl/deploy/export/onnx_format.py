"""ONNX by PyTorch's exporter of `torch.export` programs: one file, weights and labels in it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim

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


def load(path: Path) -> nn.Module:
    """The network of a file, run by onnxruntime on the CPU with as many threads as torch."""
    return _Session(path)


class _Session(nn.Module):
    """onnxruntime as a module."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3  # errors
        self.session: Any = onnxruntime.InferenceSession(os.fspath(path), options, ["CPUExecutionProvider"])

    def forward(self, images: Tensor) -> Tensor:
        """Map images `(B, 3, S, S)` to outputs `(B, classes)`."""
        (outputs,) = self.session.run(None, {"images": images.numpy()})
        return torch.from_numpy(outputs)


def read_metadata(path: Path) -> dict[str, str]:
    """What `save` was given, and what else the file says."""
    import onnx

    return {entry.key: entry.value for entry in onnx.load(path).metadata_props}


def write_metadata(path: Path, metadata: Mapping[str, str]) -> None:
    """Replace what a file says."""
    import onnx

    model = onnx.load(path)
    onnx.helper.set_model_props(model, dict(metadata))
    onnx.save(model, path)


def describe(path: Path) -> list[str]:
    """What else there is to say of a file."""
    import onnx

    model = onnx.load(path, load_external_data=False)
    counted = Counter(node.op_type for node in model.graph.node).most_common(4)
    most = ", ".join(f"{number} {name}" for name, number in counted)
    opset = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    return [f"opset {opset}, {len(model.graph.node)} operators ({most}, ...); labels in its metadata_props"]


def example_of_use(path: Path, images: str) -> str:
    """One line of Python that runs a file."""
    return f"import onnxruntime as ort; ort.InferenceSession({str(path)!r}).run(None, {{'images': {images}.numpy()}})"
