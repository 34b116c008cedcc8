"""The format of `torch.export`: a `.pt2` file, which `torch.export.load` opens and AOTInductor compiles."""

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

_METADATA = "metadata.json"  # the name of the extra file


def save(
    model: nn.Module, example: Tensor, path: Path, metadata: Mapping[str, str] | None = None, dynamic: bool = True
) -> None:
    """Write a `.pt2` file, the metadata as JSON in its extra file; the other arguments are those of `exported`."""
    extra = {_METADATA: json.dumps(dict(metadata or {}))}
    torch.export.save(exported(model, example, dynamic), path, extra_files=extra)


def exported(model: nn.Module, example: Tensor, dynamic: bool) -> ExportedProgram:
    """Return the program of a model; a dynamic batch is traced with two images, as one image would fix the size.

    Args:
        model: In evaluation mode: images to outputs.
        example: A batch `(B, 3, S, S)`; for a dynamic batch its B does not matter.
        dynamic: Take batches of any size instead of B.
    """
    if not dynamic:
        return torch.export.export(model, (example,), strict=False)
    pair = example[:1].expand(2, -1, -1, -1).contiguous()
    return torch.export.export(model, (pair,), dynamic_shapes=({0: Dim("batch")},), strict=False)


def load(path: Path) -> nn.Module:
    """Return the network of a file."""
    return torch.export.load(path).module()


def describe(path: Path) -> list[str]:
    """Return further lines about a file."""
    nodes = [node for node in torch.export.load(path).graph.nodes if node.op == "call_function"]
    return [f"{len(nodes)} operators of aten; labels in its extra file {_METADATA}"]
