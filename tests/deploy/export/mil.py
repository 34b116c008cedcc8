"""The program in a CoreML package, evaluated by torch, where CoreML can't run.

Weights are taken as they are stored, in float16 or float32; arithmetic is float32. This finds a wrong conversion and
the rounding of weights, but not errors of CoreML's own arithmetic.
"""

import torch
from torch import nn
from torch.nn import functional as F


def read_program(path):
    """The saved program of an `.mlpackage` as a module."""
    import coremltools as ct
    from coremltools.converters.mil.frontend.milproto.load import load

    spec = ct.utils.load_spec(str(path))
    weights = str(path / "Data" / "com.apple.CoreML" / "weights")
    function = load(spec, spec.specificationVersion, weights).functions["main"]
    return _Program(function, bytes_in=spec.description.input[0].type.HasField("imageType"))


class _Program(nn.Module):
    """A function of MIL whose operations are done one by one."""

    def __init__(self, function, bytes_in):
        super().__init__()
        self.bytes_in = bytes_in
        self.operations = [operation for operation in function.operations if operation.op_type != "const"]
        unknown = sorted({operation.op_type for operation in self.operations} - _OPERATIONS.keys())
        if unknown:
            raise NotImplementedError(", ".join(unknown))

    def forward(self, images):
        """Map images `(B, 3, S, S)` to outputs; an input of bytes is given as pixels from 0 to 1."""
        known = {"images": (images * 255).round() if self.bytes_in else images}
        outputs = images
        for operation in self.operations:
            inputs = {name: _value(values, known) for name, values in operation.inputs.items()}
            outputs = _OPERATIONS[operation.op_type](inputs)
            results = outputs if isinstance(outputs, tuple) else (outputs,)
            known.update({result.name: value for result, value in zip(operation.outputs, results, strict=False)})
        return outputs


def _value(values, known):
    """What a variable, or each of several, holds: computed before, or stored."""
    if isinstance(values, list | tuple):
        return [_value(one, known) for one in values]
    if values is None or values.name in known:
        return values and known[values.name]
    stored = values.val
    floating = hasattr(stored, "dtype") and stored.dtype.kind == "f"
    return torch.as_tensor(stored).float() if floating else stored


def _convolution(values):
    top, bottom, left, right = _padding(values)
    padded = F.pad(values["x"], (left, right, top, bottom))
    strides, dilations = (tuple(map(int, values[name])) for name in ("strides", "dilations"))
    return F.conv2d(padded, values["weight"], values.get("bias"), strides, 0, dilations, int(values["groups"]))


def _padding(values):
    if values["pad_type"] == "valid":
        return (0, 0, 0, 0)
    if values["pad_type"] != "custom":
        raise NotImplementedError(f"conv with padding {values['pad_type']}")
    return tuple(map(int, values["pad"]))


def _batch_norm(values):
    statistics = values["mean"], values["variance"], values["gamma"], values["beta"]
    return F.batch_norm(values["x"], *statistics, eps=float(values["epsilon"]))


def _matmul(values):
    first, second = values["x"], values["y"]
    first = first.mT if values["transpose_x"] else first
    return first @ (second.mT if values["transpose_y"] else second)


def _split(values):
    return tuple(values["x"].split(values["split_sizes"].tolist(), int(values["axis"])))


def _mean(values):
    return values["x"].mean(values["axes"].tolist(), keepdim=bool(values["keep_dims"]))


_OPERATIONS = {
    "add": lambda values: values["x"] + values["y"],
    "batch_norm": _batch_norm,
    "cast": lambda values: values["x"],  # all is float32 here
    "classify": lambda values: values["probabilities"],
    "concat": lambda values: torch.cat(values["values"], int(values["axis"])),
    "conv": _convolution,
    "linear": lambda values: F.linear(values["x"], values["weight"], values["bias"]),
    "matmul": _matmul,
    "mul": lambda values: values["x"] * values["y"],
    "real_div": lambda values: values["x"] / values["y"],
    "reduce_mean": _mean,
    "relu": lambda values: values["x"].relu(),
    "reshape": lambda values: values["x"].reshape(values["shape"].tolist()),
    "sigmoid": lambda values: values["x"].sigmoid(),
    "softmax": lambda values: values["x"].softmax(int(values["axis"])),
    "split": _split,
    "sqrt": lambda values: values["x"].sqrt(),
    "square": lambda values: values["x"].square(),
    "sub": lambda values: values["x"] - values["y"],
    "transpose": lambda values: values["x"].permute(values["perm"].tolist()),
}
