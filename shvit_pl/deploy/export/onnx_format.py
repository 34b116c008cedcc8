"""ONNX by PyTorch's exporter of `torch.export` programs: one file, weights and labels in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from shvit_pl.deploy.onnx_runtime import OPSET, OnnxNetwork, save

__all__ = ["OPSET", "describe", "example_of_use", "load", "read_metadata", "save", "write_metadata"]


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
