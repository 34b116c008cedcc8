"""One export: converted under a temporary name, run, compared, perhaps quantized, and only then put in its place."""

import json
import logging
import os
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from shvit_pl import __version__
from shvit_pl.deploy import formats, measuring, passes, timing
from shvit_pl.deploy.images import RealImages, in_batches, verification_images
from shvit_pl.deploy.options import ExportOptions
from shvit_pl.display import counted, say
from shvit_pl.errors import UserError, one_line
from shvit_pl.files import remove, replacing, size
from shvit_pl.models.open_network import OpenedNetwork
from shvit_pl.runs.folder import run_of
from shvit_pl.runs.robustness import read_measured, weights_of
from shvit_pl.teachers.classes import same_classes

_COMPARED = 64  # images
_USE = {  # a line of Python that runs a file
    "onnx": "import onnxruntime, torch; "
    "onnxruntime.InferenceSession({path!r}).run(None, {{'images': {images}.numpy()}})",
    "torch-export": "import torch; torch.export.load({path!r}).module()({images})",
    "coreml": "import PIL.Image, torch, coremltools as ct; ct.models.MLModel({path!r}).predict({{'images': {images}}})",
    "executorch": "import torch; from executorch.runtime import Runtime; "
    "Runtime.get().load_program({path!r}).load_method('forward').execute([{images}])",
}


class Graph(nn.Module):
    """A network with normalization before it and softmax after it, as asked for.

    Args:
        network: A network `(B, 3, S, S)` to `(B, classes)`.
        normalization: Mean and standard deviation per channel, for pixels from 0 to 1; None: images come normalized.
        softmax: Give probabilities instead of logits.
        dtype: Number type of the network; images and outputs keep their own.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        network: nn.Module,
        normalization: tuple[Sequence[float], Sequence[float]] | None = None,
        softmax: bool = False,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        self.network = network.to(dtype)
        self.normalize, self.softmax, self.dtype = normalization is not None, softmax, dtype
        for name, values in zip(("mean", "std"), normalization or (), strict=False):
            self.register_buffer(name, torch.tensor(values).view(1, -1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Map images `(B, 3, S, S)` to logits or probabilities `(B, classes)`."""
        if self.normalize:
            images = (images - self.mean) / self.std
        outputs = self.network(images.to(self.dtype)).to(images.dtype)
        return outputs.softmax(dim=-1) if self.softmax else outputs


class Difference(NamedTuple):
    """The difference of two networks' outputs."""

    largest: float
    """Largest absolute difference of all outputs."""
    relative: float
    """Largest difference as a share of the largest absolute output; NaN where an output is."""
    agreeing: int
    """Images on which both have the same top-1 class."""
    classes: int
    """Classes that the first network predicts."""


@torch.inference_mode()
def difference(original: nn.Module, exported: nn.Module, batches: Iterable[Tensor]) -> Difference:
    """Compare the outputs of two networks on the same batches `(B, 3, S, S)`, on the CPU."""
    outputs = [(original(images), exported(images)) for images in batches]
    expected, actual = (torch.cat([pair[side] for pair in outputs]).double() for side in (0, 1))
    largest = (expected - actual).abs().max()
    predicted, scale = expected.argmax(-1), expected.abs().max()
    agreeing = int((predicted == actual.argmax(-1)).sum())
    relative = (largest / scale).item() if scale else largest.item()  # a classifier may begin with zeros
    return Difference(largest.item(), relative, agreeing, len(set(predicted.tolist())))


def export(opened: OpenedNetwork, options: ExportOptions) -> None:
    """Write the file of the options, and print what was measured on it.

    Raises:
        UserError: where the converter fails, the file differs from the network, or int8 costs too much; nothing is
            written then.
    """
    opened = replace(opened, image_size=options.image_size or opened.image_size)
    passes.check_size(opened, opened.image_size)
    own_images = _own_images(opened, options) if options.int8 else None
    try:
        pictures, source = verification_images(
            opened, opened.image_size, options.data, not options.normalize, _COMPARED
        )
    except UserError as error:
        raise UserError(str(error).replace("data.path", "--data")) from error
    say(f"converting {opened.name} ({options.graph_dtype}, {opened.image_size} px) to {options.format}")
    with replacing(options.path) as partial:
        _convert(opened, options, pictures, partial)
        verified = [("not run", f"saved, not run: {options.spec.runs_as} runs on macOS only")]
        if options.spec.runs_here:
            verified = _verify(opened, options, pictures, source, partial)
        measured = [] if own_images is None else _replace_by_int8(own_images, options, partial)
        with silenced():
            details = formats.CONVERTERS[options.format].describe(partial)
    say()
    for name, text in [*_report(opened, options, [*details, *measured]), *verified]:
        say(f"  {name:<11}{text}")
    side = opened.image_size
    example = f"torch.rand({options.batch or 1}, 3, {side}, {side})"
    if options.format == "coreml":
        picture = f"PIL.Image.open('FILE').convert('RGB').resize({side, side})"
        example = picture if options.normalize and options.batch == 1 else f"{example}.numpy()"
    say("", f"use it: {_USE[options.format].format(path=str(options.path), images=example)}")


def _graph(opened: OpenedNetwork, options: ExportOptions, network: nn.Module, dtype: torch.dtype) -> Graph:
    normalization = (opened.mean, opened.std) if options.normalize else None
    return Graph(network, normalization, options.softmax, dtype).eval()


def _convert(opened: OpenedNetwork, options: ExportOptions, pictures: Tensor, path: Path) -> None:
    single = options.batch == 1
    arguments: dict[str, Any] = {}  # those that only some formats' `save` has
    if options.format == "coreml":
        names = opened.class_names if options.softmax and single else None
        arguments = {"half": options.graph_dtype == "fp16", "pixels": options.normalize and single, "classes": names}
    elif options.spec.dynamic:
        arguments = {"dynamic": options.batch is None, **({"opset": options.opset} if options.opset else {})}
    # CoreML's converter chooses the precision itself
    dtype = torch.float32 if options.format == "coreml" else measuring.DTYPES[options.graph_dtype]
    (example,) = in_batches(pictures, [options.batch or 2])
    graph = _graph(opened, options, passes.fused(opened.model), dtype)
    with converter_errors("the converter can't write this network", options):
        formats.CONVERTERS[options.format].save(graph, example, path, _metadata(opened, options), **arguments)


def _metadata(opened: OpenedNetwork, options: ExportOptions) -> dict[str, str]:
    """Return labels and what a program must know to prepare images, as text; lists are JSON."""
    pixels = "RGB pixels from 0 to 1"
    return {
        "made_by": f"shvit-pl {__version__}",
        "weights": "averaged" if opened.averaged else "raw",
        "input": pixels if options.normalize else f"{pixels}, then (pixels - mean) / std",
        "output": "probabilities" if options.softmax else "logits",
        "image_size": str(opened.image_size),
        "resize": opened.resize,
        "crop_pct": str(opened.crop_pct),
        "mean": json.dumps(list(opened.mean)),
        "std": json.dumps(list(opened.std)),
        **_temperature(opened),
        **({} if opened.class_names is None else {"labels": json.dumps(opened.class_names)}),
    }


def _temperature(opened: OpenedNetwork) -> dict[str, str]:
    """Return the temperature by which a program may divide the logits, where one was found for these weights."""
    folder = opened.checkpoint and run_of(str(opened.checkpoint))
    if opened.checkpoint is None or not folder:
        return {}
    found = read_measured(folder, weights_of(opened.checkpoint, opened.averaged)).get("calibration")
    return {"temperature": str(found["temperature"])} if found else {}


@contextmanager
def converter_errors(problem: str, options: ExportOptions) -> Iterator[None]:
    """Silence a converter or a runtime; its exceptions, of any kind, become a `UserError`."""
    try:
        with silenced():
            yield
    except Exception as error:
        raise UserError(
            f"--format {options.format}: {problem} ({one_line(error)[:240]}). Nothing was written to "
            f"{str(options.path)!r}."
        ) from error


@contextmanager
def silenced() -> Iterator[None]:
    """Keep warnings, logs, progress bars and prints of a block from the terminal; its exceptions pass."""
    level = logging.root.manager.disable
    streams = (1, 2)  # libraries in C++ write to the descriptors
    sys.stdout.flush()
    sys.stderr.flush()
    copies = [os.dup(stream) for stream in streams]
    try:
        with (
            Path(os.devnull).open("w") as sink,
            redirect_stdout(sink),
            redirect_stderr(sink),
            warnings.catch_warnings(action="ignore"),
        ):
            logging.disable(logging.WARNING)
            for stream in streams:
                os.dup2(sink.fileno(), stream)
            yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for stream, copy in zip(streams, copies, strict=True):
            os.dup2(copy, stream)
            os.close(copy)
        logging.disable(level)


def _verify(
    opened: OpenedNetwork, options: ExportOptions, pictures: Tensor, source: str, path: Path
) -> list[tuple[str, str]]:
    """Return the difference between a file and its network in words, in batches of several sizes where it can."""
    say(f"verifying it with {options.spec.runs_as} on {len(pictures)} {source}")
    sizes = [1, 3, *(min(16, len(pictures) - start) for start in range(4, len(pictures), 16))]
    if options.batch is not None:
        sizes = [options.batch] * max(1, len(pictures) // options.batch)
    with converter_errors(f"{options.spec.runs_as} can't run the file", options):
        exported = formats.CONVERTERS[options.format].load(path)
        original = _graph(opened, options, opened.model, torch.float32)
        largest, relative, agreeing, classes = difference(original, exported, in_batches(pictures, sizes))
    allowed = f"{options.allowed_difference:.0e}"
    if not relative <= options.allowed_difference:
        raise UserError(
            f"--format {options.format}: the file differs from the network by {relative:.1e} of the largest output on "
            f"{sum(sizes)} images ({source}; allowed is {allowed}), and has the same top-1 class on {agreeing}. "
            f"Nothing was written to {str(options.path)!r}."
        )
    before = " (of float, before int8)" if options.int8 else ""
    blind = "" if classes > 1 or len(pictures) == 1 else ", which says little: the network predicts no other"
    repeated = ", some of them repeatedly" if sum(sizes) > len(pictures) else ""
    apart = f"{largest:.1e} at most{before}, {relative:.1e} of the largest output (allowed {allowed})"
    batches = ", ".join(map(str, dict.fromkeys(sizes)))
    return [
        ("difference", f"{apart}; the same class on {agreeing} of {sum(sizes)} images{blind}"),
        ("", f"on {len(pictures)} {source}{repeated}; in batches of {batches}"),
    ]


def _report(opened: OpenedNetwork, options: ExportOptions, details: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield the lines about the file, each with a name."""
    yield "file", f"{options.path}, {size(options.path) / 1e6:.1f} MB, {options.format}"
    if opened.fresh:
        yield "weights", "fresh, not trained"
    pixels = "RGB pixels from 0 to 1" if options.normalize else "normalized RGB"
    yield "input", f"images: ({options.batch or 'any'}, 3, {opened.image_size}, {opened.image_size}), {pixels}"
    names = opened.class_names
    labels = "no class names" if names is None else f"{len(names)} labels in the file"
    yield "output", f"{'probabilities' if options.softmax else 'logits'}; {labels}"
    for line in details:
        yield "", line


_CALIBRATION = 128  # images
# Convolutions are nearly all of the work. Attention's products, GroupNorm, softmax and the classifier stay in float:
# they are little work, and rounding costs them most.
_QUANTIZED = ["Conv"]
_BATCH = 8  # images, when speed is measured
_MAX_IMAGES = 1000  # validation images at most
_TOLERANCE = 1.0  # points of top-1


def _own_images(opened: OpenedNetwork, options: ExportOptions) -> RealImages:
    """Open the images for int8; raises `UserError` where the network's accuracy on them means nothing."""
    if opened.fresh:
        raise UserError(
            f"--int8: the weights of {opened.name!r} are fresh, so its accuracy means nothing; give a run folder, a "
            "checkpoint or a Hub repo."
        )
    try:
        images = RealImages(opened, opened.image_size, options.data, normalized=not options.normalize)
    except UserError as error:
        reason = str(error).replace("data.path", "--data")
        raise UserError(
            f"--int8: its calibration needs the run's images. {reason} Give its dataset by --data."
        ) from error
    if opened.class_names is None or not same_classes(opened.class_names, images.class_names):
        raise UserError(
            f"--int8: the classes of {images.path!r} are not those of {opened.name!r}, so top-1 means nothing; give "
            "its dataset by --data."
        )
    return images


def _replace_by_int8(images: RealImages, options: ExportOptions, path: Path) -> list[str]:
    """Replace a verified `.onnx` file by its int8 version; return lines about accuracy and speed.

    Raises `UserError` when it costs more than `--int8_tolerance`.
    """
    say(f"quantizing with {_CALIBRATION} training images of {images.path}")
    new = path.with_name(f"{path.stem}_int8{path.suffix}")
    try:
        with silenced():
            _quantize(path, new, images.training(_CALIBRATION))
        lines = _compared(path, new, images, options)
        new.replace(path)
    finally:
        remove(new)
    return lines


def _quantize(source: Path, path: Path, images: Iterable[Tensor]) -> None:
    """Write an int8 version of an `.onnx` file: weights per channel, activations calibrated with `(1, 3, S, S)`."""
    import onnx
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    batches = ({"images": batch.numpy()} for batch in images)
    reader: Any = SimpleNamespace(get_next=lambda: next(batches, None))
    with TemporaryDirectory(prefix="shvit_pl_int8_") as folder:
        prepared = Path(folder) / "prepared.onnx"
        quant_pre_process(source, prepared, skip_symbolic_shape=True)
        quantize_static(
            prepared,
            path,
            reader,
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=_QUANTIZED,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
    model = onnx.load(path)
    del model.metadata_props[:]
    model.metadata_props.extend(onnx.load(source).metadata_props)
    model.metadata_props.add(key="quantized", value="int8: convolutions")
    onnx.save(model, path)


@torch.inference_mode()
def _compared(before: Path, after: Path, images: RealImages, options: ExportOptions) -> list[str]:
    """Return lines about accuracy, agreement and speed; raise `UserError` where int8 costs too much."""
    networks = [formats.OnnxNetwork(before), formats.OnnxNetwork(after)]
    pictures, labels = images.validation(_MAX_IMAGES)
    batch, number = options.batch or _BATCH, len(pictures)
    batches = in_batches(pictures, [batch] * -(-number // batch))
    classes = [torch.cat([network(part).argmax(-1) for part in batches])[:number] for network in networks]
    old, new = ((predicted == labels).double().mean().item() for predicted in classes)
    agreeing = int((classes[0] == classes[1]).sum())
    allowed = _TOLERANCE if options.int8_tolerance is None else options.int8_tolerance
    if round(100 * (old - new), 6) > allowed:
        raise UserError(
            f"--int8: top-1 falls from {old:.4f} to {new:.4f} on {number} validation images of {images.path} "
            f"(allowed are {allowed:g} points, by --int8_tolerance). Nothing was written to {str(options.path)!r}."
        )
    rates = timing.images_per_second(dict(enumerate(networks)), batches[0], rounds=5)
    blind = len(set(classes[0].tolist())) == 1
    return [
        *(["int8: float predicts one class for every image, so the comparison says little"] if blind else []),
        f"int8: top-1 {new:.4f} (float {old:.4f}) on {number} validation images of {images.path}; the same class "
        f"on {agreeing}",
        f"int8: {rates[1].median:.0f} images/s (float {rates[0].median:.0f}), {size(after) / 1e6:.1f} MB (float "
        f"{size(before) / 1e6:.1f}); batches of {batch}, {counted(torch.get_num_threads(), 'thread')}, "
        f"{measuring.processor()}",
    ]
