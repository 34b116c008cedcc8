"""An ONNX file in int8 by onnxruntime's static quantization, with accuracy and speed compared with float."""

from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from shvit_pl.command_line.quiet import silenced
from shvit_pl.deploy.images import RealImages, in_batches
from shvit_pl.deploy.measuring import processor
from shvit_pl.deploy.onnx_runtime import OnnxNetwork
from shvit_pl.deploy.options import ExportOptions
from shvit_pl.deploy.timing import images_per_second
from shvit_pl.display.words import counted
from shvit_pl.errors import UserError
from shvit_pl.files import remove, size
from shvit_pl.models.open_network import OpenedNetwork

_CALIBRATION = 128  # images
# Convolutions are nearly all of the work. Attention's products, GroupNorm, softmax and the classifier stay in float:
# they are little work, and rounding costs them most.
_QUANTIZED = ["Conv"]
_BATCH = 8  # images, when speed is measured
_MAX_IMAGES = 1000  # of validation
_TOLERANCE = 1.0  # points of top-1


def replace_by_int8(opened: OpenedNetwork, options: ExportOptions, path: Path) -> list[str]:
    """Replace a verified `.onnx` file by its int8 version; return lines about accuracy and speed.

    Raises:
        UserError: when it costs more than `--int8_tolerance`, or the images are not of the network's classes.
    """
    images = RealImages(opened, opened.image_size, options.data, normalized=not options.normalize)
    if not images.known:
        raise UserError(
            f"--int8: the classes of {images.path!r} are not those of {opened.name!r}, so top-1 means nothing; give "
            "its dataset by --data."
        )
    print(f"quantizing with {_CALIBRATION} training images of {images.path}", flush=True)
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
    networks = [OnnxNetwork(before), OnnxNetwork(after)]
    pictures, labels = images.validation(_MAX_IMAGES)
    batch, number = options.batch or _BATCH, len(pictures)
    batches = in_batches(pictures, [batch] * -(-number // batch))
    classes = [torch.cat([network(part).argmax(-1) for part in batches])[:number] for network in networks]
    old, new = (100 * (predicted == labels).float().mean().item() for predicted in classes)
    agreeing = int((classes[0] == classes[1]).sum())
    allowed = _TOLERANCE if options.int8_tolerance is None else options.int8_tolerance
    if old - new > allowed:
        raise UserError(
            f"--int8: top-1 falls from {old:.2f} to {new:.2f} % on {number} validation images of {images.path} "
            f"(allowed are {allowed:g} points, by --int8_tolerance). Nothing was written to {str(options.path)!r}."
        )
    rates = images_per_second(dict(enumerate(networks)), batches[0], rounds=5)
    return [
        f"int8: top-1 {new:.2f} % (float {old:.2f} %) on {number} validation images of {images.path}; the same class "
        f"on {agreeing}",
        f"int8: {rates[1].median:.0f} images/s (float {rates[0].median:.0f}), {size(after) / 1e6:.1f} MB (float "
        f"{size(before) / 1e6:.1f}); batches of {batch}, {counted(torch.get_num_threads(), 'thread')}, {processor()}",
    ]
