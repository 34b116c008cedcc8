"""TorchScript by tracing: a `.pt` file for `torch.jit.load` and libtorch. PyTorch deprecates it, so `.pt2` is newer."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from shvit_pl.deploy.export.torch_export import METADATA


def save(model: nn.Module, example: Tensor, path: Path, metadata: Mapping[str, str] | None = None) -> None:
    """Write `model` to a `.pt` file; its batch is dynamic.

    Args:
        model: In evaluation mode: images to outputs.
        example: A batch `(B, 3, S, S)`; B does not matter.
        path: The file.
        metadata: Kept as JSON in the extra file `metadata.json`.
    """
    with _undeprecated(), torch.inference_mode():
        traced = torch.jit.trace(model, example, check_trace=False)  # type: ignore[no-untyped-call]
        torch.jit.save(traced, str(path), _extra_files={METADATA: json.dumps(dict(metadata or {}))})


def load(path: Path) -> nn.Module:
    """The network of a file."""
    with _undeprecated():
        network: nn.Module = torch.jit.load(str(path))  # type: ignore[no-untyped-call]
    return network


def read_metadata(path: Path) -> dict[str, str]:
    """What `save` was given."""
    extra = {METADATA: ""}
    with _undeprecated():
        torch.jit.load(str(path), _extra_files=extra)  # type: ignore[no-untyped-call]
    found: dict[str, str] = json.loads(extra[METADATA])
    return found


def describe(path: Path) -> list[str]:
    """What else there is to say of a file."""
    return [f"deprecated by PyTorch in favour of torch-export; labels in its extra file {METADATA}"]


def example_of_use(path: Path, images: str) -> str:
    """One line of Python that runs a file."""
    return f"import torch; torch.jit.load({str(path)!r})({images})"


@contextmanager
def _undeprecated() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the deprecation, and of shapes that the trace takes as constant
        yield
