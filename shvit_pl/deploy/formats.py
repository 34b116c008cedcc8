"""The formats of exports, each with functions that write a file, open it, and describe it.

CoreML is converted anywhere and runs on macOS only; elsewhere the tests evaluate the saved program.
"""

import json
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torchvision.transforms.v2.functional import to_pil_image

from shvit_pl.compat import executorch_plan
from shvit_pl.errors import UserError

# ---- ONNX: one file, weights and labels in it


_STACK = "pkg.torch.onnx.stack_trace"  # of each operator, with paths of this machine


def save_onnx(
    model: nn.Module,
    example: Tensor,
    path: Path,
    metadata: Mapping[str, str] | None = None,
    opset: int = 18,  # the exporter's own, from which it converts to others
    dynamic: bool = True,
    outputs: Sequence[str] = ("outputs",),
) -> None:
    """Write an `.onnx` file with the input `images`, outputs of these names and the metadata as its `metadata_props`.

    The model is in evaluation mode, the example a batch `(B, 3, S, S)`; a dynamic file takes batches of any size.
    """
    pair = example[:1].expand(2, -1, -1, -1).contiguous() if dynamic else example  # one image would fix the size
    program = torch.onnx.export(
        model,
        (pair,),
        input_names=["images"],
        output_names=list(outputs),
        opset_version=opset,
        dynamic_shapes=({0: Dim("batch")},) if dynamic else None,
        dynamo=True,
        verbose=False,
    )
    assert program is not None, "PyTorch's exporter of torch.export programs returns one"
    program.model.metadata_props.update(metadata or {})
    for node in program.model.graph.all_nodes():
        node.metadata_props.pop(_STACK, None)
    program.save(path, external_data=False)


class OnnxNetwork(nn.Module):
    """An ONNX file in ONNX Runtime, with as many threads as torch has now.

    Its input is `images`. It computes on a GPU where ONNX Runtime was built for it, and raises `UserError` elsewhere;
    images and outputs pass through the CPU's memory.
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

    def forward(self, images: Tensor) -> Any:
        """Map images `(B, 3, S, S)` to outputs `(B, classes)`, on the CPU; a detector's to all of its outputs."""
        outputs = [torch.from_numpy(each) for each in self.session.run(None, {"images": images.numpy(force=True)})]
        return outputs[0] if len(outputs) == 1 else outputs


def onnx_network(model: nn.Module, images: Tensor) -> OnnxNetwork:
    """Convert a network on the CPU to ONNX, for batches like these `(B, 3, S, S)`, and open it on their device."""
    with TemporaryDirectory(prefix="shvit_pl_onnx_") as folder:
        path = Path(folder) / "model.onnx"
        save_onnx(model, images.cpu().contiguous(), path, dynamic=False)
        return OnnxNetwork(path, images.device)


def describe_onnx(path: Path) -> list[str]:
    """Return further lines about a file."""
    import onnx

    model = onnx.load(path, load_external_data=False)
    most = _counted(Counter(node.op_type for node in model.graph.node).most_common(4))
    opset = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    return [f"opset {opset}, {len(model.graph.node)} operators ({most}, ...); labels in its metadata_props"]


def _counted(kinds: list[tuple[str, int]]) -> str:
    return ", ".join(f"{number} {kind}" for kind, number in kinds)


# ---- torch.export: a `.pt2` file, which AOTInductor compiles

_EXTRA_FILE = "metadata.json"  # the name of the extra file


def save_torch_export(
    model: nn.Module, example: Tensor, path: Path, metadata: Mapping[str, str] | None = None, dynamic: bool = True
) -> None:
    """Write a `.pt2` file, the metadata as JSON in its extra file; the other arguments are those of `exported`."""
    extra = {_EXTRA_FILE: json.dumps(dict(metadata or {}))}
    program = exported(model, example, dynamic)
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # which has paths of this machine
    torch.export.save(program, path, extra_files=extra)


def exported(model: nn.Module, example: Tensor, dynamic: bool) -> ExportedProgram:
    """Return the program of a model in evaluation mode, for a batch `(B, 3, S, S)` or, if dynamic, of any size.

    A dynamic batch is traced with two images, as one image would fix the size.
    """
    if not dynamic:
        return torch.export.export(model, (example,), strict=False)
    pair = example[:1].expand(2, -1, -1, -1).contiguous()
    return torch.export.export(model, (pair,), dynamic_shapes=({0: Dim("batch")},), strict=False)


def describe_torch_export(path: Path) -> list[str]:
    """Return further lines about a file."""
    nodes = [node for node in torch.export.load(path).graph.nodes if node.op == "call_function"]
    return [f"{len(nodes)} operators of aten; labels in its extra file {_EXTRA_FILE}"]


# ---- CoreML: an ML program (`.mlpackage`) for Apple's devices, float16 by default, with labels in it

_PREFIX = "shvit_pl."  # names of our metadata begin with it


def save_coreml(
    model: nn.Module,
    example: Tensor,
    path: Path,
    metadata: Mapping[str, str] | None = None,
    half: bool = True,
    pixels: bool = False,
    classes: list[str] | None = None,
) -> None:
    """Write an `.mlpackage`, a folder, for batches as large as the example `(B, 3, S, S)`, with user-defined metadata.

    `half` computes in float16. With `pixels` it takes an image of CoreML, whose bytes are divided by 255; B must be 1.
    `classes` are names of the outputs, which are probabilities: the package is a classifier.
    """
    import coremltools as ct

    shape = tuple(example.shape)
    layout = ct.colorlayout.GRAYSCALE if shape[1] == 1 else ct.colorlayout.RGB
    image = ct.ImageType(name="images", shape=shape, scale=1 / 255, color_layout=layout)
    network = ct.convert(
        exported(model, example, dynamic=False).run_decompositions({}),
        inputs=[image if pixels else ct.TensorType(name="images", shape=shape)],
        convert_to="mlprogram",
        compute_precision=ct.precision.FLOAT16 if half else ct.precision.FLOAT32,
        minimum_deployment_target=ct.target.iOS16,
        classifier_config=ct.ClassifierConfig(classes) if classes else None,
    )
    network.user_defined_metadata.update({_PREFIX + key: value for key, value in (metadata or {}).items()})
    network.save(str(path))


class CoreMLNetwork(nn.Module):
    """A package as a module, run by CoreML, on macOS only."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        import coremltools as ct

        self.network: Any = ct.models.MLModel(str(path))
        self.pixels = self.network.get_spec().description.input[0].type.HasField("imageType")

    def forward(self, images: Tensor) -> Tensor:
        """Map images `(B, 3, S, S)` to outputs `(B, classes)` (pixels as bytes where it takes those)."""
        image = to_pil_image((images[0] * 255).round().byte()) if self.pixels else images.numpy()
        outputs = self.network.predict({"images": image})
        probabilities = next((value for value in outputs.values() if isinstance(value, dict)), None)
        if probabilities is None:
            return torch.from_numpy(next(iter(outputs.values()))).float()
        names = json.loads(self.network.user_defined_metadata[f"{_PREFIX}labels"])
        return torch.tensor([[probabilities[name] for name in names]])


def describe_coreml(path: Path) -> list[str]:
    """Return further lines about a package."""
    import coremltools as ct

    spec: Any = ct.utils.load_spec(str(path))
    (function,) = spec.mlProgram.functions.values()
    operations = next(iter(function.block_specializations.values())).operations
    kinds = Counter(operation.type for operation in operations if operation.type != "const")
    most = _counted(kinds.most_common(4))
    weights = sum(file.stat().st_size for file in (path / "Data/com.apple.CoreML/weights").iterdir())
    kind = spec.description.input[0].type.WhichOneof("Type")
    outputs = ", ".join(output.name for output in spec.description.output)
    return [
        f"{kinds.total()} operations ({most}, ...), {weights / 1e6:.1f} MB of weights",
        f"input images of {kind}, outputs {outputs}; labels in its user-defined metadata",
    ]


# ---- ExecuTorch: a `.pte` file for phones and small devices, computed by XNNPACK where that has the operator

_METHOD = "metadata"  # a method of the program, as the format has no place for text


def save_executorch(model: nn.Module, example: Tensor, path: Path, metadata: Mapping[str, str] | None = None) -> None:
    """Write a `.pte` file for batches `(B, 3, S, S)` as large as the example; its method returns the metadata."""
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    lowered = to_edge_transform_and_lower(
        exported(model, example, dynamic=False),
        partitioner=[XnnpackPartitioner()],
        constant_methods={_METHOD: json.dumps(dict(metadata or {}))},
    )
    path.write_bytes(lowered.to_executorch().buffer)


class ExecuTorchNetwork(nn.Module):
    """A file as a module, run by the ExecuTorch runtime."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        from executorch.runtime import Runtime

        self.program: Any = Runtime.get().load_program(path)
        self.method: Any = self.program.load_method("forward")

    def forward(self, images: Tensor) -> Any:
        """Map images `(B, 3, S, S)` to outputs `(B, classes)`; a dense detector's to all of its outputs."""
        outputs = [each.clone() for each in self.method.execute([images.contiguous()])]  # its memory is used again
        return outputs[0] if len(outputs) == 1 else outputs


def describe_executorch(path: Path) -> list[str]:
    """Return how much of a file XNNPACK computes, and what is left to ExecuTorch's own operators."""
    plan = executorch_plan(path.read_bytes())
    calls = [instruction.instr_args for instruction in plan.chains[0].instructions]
    outside = Counter(plan.operators[call.op_index].name for call in calls if hasattr(call, "op_index"))
    names = _counted(outside.most_common()).replace("aten::", "")
    return [
        f"{len(plan.delegates)} partitions run by XNNPACK; outside of them {names or 'nothing'}",
        f"labels in its method {_METHOD}",
    ]


class Converter(NamedTuple):
    """The functions of a format."""

    save: Callable[..., None]
    """Writes a network, for an example batch, to a file with metadata; some take further arguments."""
    load: Callable[[Path], nn.Module]
    """Opens a file as a network `(B, 3, S, S)` to `(B, classes)`."""
    describe: Callable[[Path], list[str]]


CONVERTERS = {
    "onnx": Converter(save_onnx, OnnxNetwork, describe_onnx),
    "torch-export": Converter(save_torch_export, lambda path: torch.export.load(path).module(), describe_torch_export),
    "coreml": Converter(save_coreml, CoreMLNetwork, describe_coreml),
    "executorch": Converter(save_executorch, ExecuTorchNetwork, describe_executorch),
}
