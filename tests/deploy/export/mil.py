"""The program in a CoreML package, evaluated by torch, where CoreML can't run.

Weights are taken as they are stored, in float16 or float32; arithmetic is float32. This finds a wrong conversion and
the rounding of weights, but not errors of CoreML's own arithmetic.
"""

import torch
from torch import nn
from torch.nn import functional as F


class Program(nn.Module):
    """The saved program of an `.mlpackage`, whose operations are done one by one."""

    def __init__(self, path):
        super().__init__()
        import coremltools as ct
        from coremltools.converters.mil.frontend.milproto.load import load

        spec = ct.utils.load_spec(str(path))
        weights = str(path / "Data" / "com.apple.CoreML" / "weights")
        function = load(spec, spec.specificationVersion, weights).functions["main"]
        self.bytes_in = spec.description.input[0].type.HasField("imageType")
        self.operations = [operation for operation in function.operations if operation.op_type != "const"]

    def forward(self, images):
        """Map images `(B, 3, S, S)` to outputs; an input of bytes is given as pixels from 0 to 1."""
        known = {"images": (images * 255).round() if self.bytes_in else images}
        for operation in self.operations:
            inputs = {name: _value(values, known) for name, values in operation.inputs.items()}
            outputs = _OPERATIONS[operation.op_type](inputs)
            results = outputs if isinstance(outputs, tuple) else (outputs,)
            known.update({result.name: value for result, value in zip(operation.outputs, results, strict=False)})
        return outputs


def _value(values, known):
    """The value of a variable, or of each of several: computed before, or stored."""
    if isinstance(values, list | tuple):
        return [_value(one, known) for one in values]
    if values is None or values.name in known:
        return values and known[values.name]
    is_floating = hasattr(values.val, "dtype") and values.val.dtype.kind == "f"
    return torch.as_tensor(values.val).float() if is_floating else values.val


def _convolution(values):
    assert values["pad_type"] in ("valid", "custom")
    top, bottom, left, right = map(int, values["pad"] if values["pad_type"] == "custom" else (0, 0, 0, 0))
    padded = F.pad(values["x"], (left, right, top, bottom))
    strides, dilations = (tuple(map(int, values[name])) for name in ("strides", "dilations"))
    return F.conv2d(padded, values["weight"], values.get("bias"), strides, 0, dilations, int(values["groups"]))


def _batch_norm(values):
    statistics = values["mean"], values["variance"], values["gamma"], values["beta"]
    return F.batch_norm(values["x"], *statistics, eps=float(values["epsilon"]))


def _matmul(values):
    first, second = (values[name].mT if values[f"transpose_{name}"] else values[name] for name in "xy")
    return first @ second


def _unary(function):
    return lambda values: function(values["x"])


def _binary(function):
    return lambda values: function(values["x"], values["y"])


_OPERATIONS = {
    **{name: _binary(getattr(torch, name)) for name in ("add", "mul", "sub")},
    "real_div": _binary(torch.div),
    **{name: _unary(getattr(torch, name)) for name in ("relu", "sigmoid", "sqrt", "square")},
    "batch_norm": _batch_norm,
    "cast": lambda values: values["x"],  # all is float32 here
    "classify": lambda values: values["probabilities"],
    "concat": lambda values: torch.cat(values["values"], int(values["axis"])),
    "conv": _convolution,
    "linear": lambda values: F.linear(values["x"], values["weight"], values["bias"]),
    "matmul": _matmul,
    "reduce_mean": lambda values: values["x"].mean(values["axes"].tolist(), keepdim=bool(values["keep_dims"])),
    "reshape": lambda values: values["x"].reshape(values["shape"].tolist()),
    "softmax": lambda values: values["x"].softmax(int(values["axis"])),
    "split": lambda values: tuple(values["x"].split(values["split_sizes"].tolist(), int(values["axis"]))),
    "transpose": lambda values: values["x"].permute(values["perm"].tolist()),
}
