"""ONNX."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn


def save(model: nn.Module, example: Tensor, path: Path, metadata: Mapping[str, str] | None = None) -> None:
    """Write a network as one ONNX file, for batches of the example's shape.

    Args:
        model: In evaluation mode.
        example: A batch `(B, 3, S, S)`.
        path: The file.
        metadata: Texts to keep in it.
    """
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(model, (example,), dynamo=True, verbose=False)
    assert program is not None
    program.model.metadata_props.update(metadata or {})
    program.save(str(path), external_data=False)
