"""The program in a CoreML package, evaluated by torch: what can be known of it where CoreML can't run.

Weights are taken as they are stored, in float16 or float32; arithmetic is float32. So it finds a wrong conversion and
the rounding of weights, and says nothing of CoreML's own arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Values = dict[str, Any]


class UnknownOperationError(NotImplementedError):
    """A program has an operation that is not in our table."""


def read_program(path: Path) -> nn.Module:
    """The saved program of an `.mlpackage` as a module.

    Raises:
        UnknownOperationError: names the operations that are not in our table.
    """
    import coremltools as ct
    from coremltools.converters.mil.frontend.milproto.load import load

    spec = ct.utils.load_spec(str(path))
    weights = str(path / "Data" / "com.apple.CoreML" / "weights")
    function = load(spec, spec.specificationVersion, weights).functions["main"]
    return _Program(function, bytes_in=spec.description.input[0].type.HasField("imageType"))


class _Program(nn.Module):
    """A function of MIL whose operations are done one by one."""

    def __init__(self, function: Any, bytes_in: bool) -> None:
        super().__init__()
        self.bytes_in = bytes_in
        self.operations = [operation for operation in function.operations if operation.op_type != "const"]
        unknown = sorted({operation.op_type for operation in self.operations} - _OPERATIONS.keys())
        if unknown:
            raise UnknownOperationError(", ".join(unknown))

    def forward(self, images: Tensor) -> Tensor:
        """Map images `(B, 3, S, S)` to outputs; an input of bytes is given as pixels from 0 to 1."""
        known: dict[str, Any] = {"images": (images * 255).round() if self.bytes_in else images}
        outputs = images
        for operation in self.operations:
            inputs = {name: _value(given, known) for name, given in operation.inputs.items()}
            outputs = _OPERATIONS[operation.op_type](inputs)
            results = outputs if isinstance(outputs, tuple) else (outputs,)
            known.update({result.name: value for result, value in zip(operation.outputs, results, strict=False)})
        return outputs


def _value(given: Any, known: dict[str, Any]) -> Any:
    """What a variable, or each of several, holds: computed before, or stored."""
    if isinstance(given, list | tuple):
        return [_value(one, known) for one in given]
    if given is None or given.name in known:
        return given and known[given.name]
    stored = given.val
    floating = hasattr(stored, "dtype") and stored.dtype.kind == "f"
    return torch.as_tensor(stored).float() if floating else stored


def _convolution(given: Values) -> Tensor:
    top, bottom, left, right = _padding(given)
    padded = F.pad(given["x"], (left, right, top, bottom))
    strides, dilations = (tuple(map(int, given[name])) for name in ("strides", "dilations"))
    return F.conv2d(padded, given["weight"], given.get("bias"), strides, 0, dilations, int(given["groups"]))


def _padding(given: Values) -> tuple[int, ...]:
    if given["pad_type"] == "valid":
        return (0, 0, 0, 0)
    if given["pad_type"] != "custom":
        raise UnknownOperationError(f"conv with padding {given['pad_type']}")
    return tuple(map(int, given["pad"]))


def _batch_norm(given: Values) -> Tensor:
    statistics = given["mean"], given["variance"], given["gamma"], given["beta"]
    return F.batch_norm(given["x"], *statistics, eps=float(given["epsilon"]))


def _matmul(given: Values) -> Tensor:
    first, second = given["x"], given["y"]
    first = first.mT if given["transpose_x"] else first
    return first @ (second.mT if given["transpose_y"] else second)


def _split(given: Values) -> tuple[Tensor, ...]:
    return tuple(given["x"].split(given["split_sizes"].tolist(), int(given["axis"])))


def _mean(given: Values) -> Tensor:
    return given["x"].mean(given["axes"].tolist(), keepdim=bool(given["keep_dims"]))


_OPERATIONS: dict[str, Callable[[Values], Any]] = {
    "add": lambda given: given["x"] + given["y"],
    "batch_norm": _batch_norm,
    "cast": lambda given: given["x"],  # all is float32 here
    "classify": lambda given: given["probabilities"],
    "concat": lambda given: torch.cat(given["values"], int(given["axis"])),
    "conv": _convolution,
    "linear": lambda given: F.linear(given["x"], given["weight"], given["bias"]),
    "matmul": _matmul,
    "mul": lambda given: given["x"] * given["y"],
    "real_div": lambda given: given["x"] / given["y"],
    "reduce_mean": _mean,
    "relu": lambda given: given["x"].relu(),
    "reshape": lambda given: given["x"].reshape(given["shape"].tolist()),
    "sigmoid": lambda given: given["x"].sigmoid(),
    "softmax": lambda given: given["x"].softmax(int(given["axis"])),
    "split": _split,
    "sqrt": lambda given: given["x"].sqrt(),
    "square": lambda given: given["x"].square(),
    "sub": lambda given: given["x"] - given["y"],
    "transpose": lambda given: given["x"].permute(given["perm"].tolist()),
}
