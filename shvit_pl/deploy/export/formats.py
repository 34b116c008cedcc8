"""The formats of `shvit-pl export`, and what each of them can; read without torch."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any


@dataclass(frozen=True)
class Format:
    """A format.

    Attributes:
        suffix: Of its files.
        module: In this package: `save`, `load`, `read_metadata`, `describe` and `example_of_use`.
        extra: What has to be installed for it.
        dynamic: Whether one file takes batches of any size.
        dtypes: What its graph may compute in, by default the first.
        runs_as: What `load` runs it with.
    """

    suffix: str
    module: str
    extra: str | None
    dynamic: bool
    dtypes: tuple[str, ...]
    runs_as: str

    def load_module(self) -> Any:
        """The module that writes and reads the format."""
        return import_module(f"shvit_pl.deploy.export.{self.module}")


FORMATS = {
    "onnx": Format(".onnx", "onnx_format", "onnx", True, ("fp32", "fp16"), "onnxruntime"),
    "torch-export": Format(".pt2", "torch_export", None, True, ("fp32", "fp16"), "torch"),
    "coreml": Format(".mlpackage", "coreml_format", "coreml", False, ("fp16", "fp32"), "CoreML"),
    "executorch": Format(".pte", "executorch_format", "executorch", False, ("fp32",), "the ExecuTorch runtime"),
    "torchscript": Format(".pt", "torchscript", None, True, ("fp32", "fp16"), "torch"),
}
