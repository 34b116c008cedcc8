"""An ONNX file in int8 by onnxruntime's static quantization, with accuracy and speed compared with float."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

from shvit_pl.deploy import onnx_runtime
from shvit_pl.deploy.export.options import ExportOptions
from shvit_pl.deploy.export.verify import silenced
from shvit_pl.deploy.images import RealImages
from shvit_pl.deploy.measuring import processor
from shvit_pl.deploy.timing import images_per_second
from shvit_pl.display.words import counted
from shvit_pl.errors import UserError
from shvit_pl.files import remove, size
from shvit_pl.models.open_network import OpenedNetwork

CALIBRATION = 128  # images
# Convolutions are nearly all of the work. Attention's products, GroupNorm, softmax and the classifier stay in float:
# they are little work, and rounding costs them most.
_QUANTIZED = ["Conv"]
_BATCH = 8  # images, when speed is measured
_MAX_IMAGES = 1000  # of validation
_TOLERANCE = 1.0  # points of top-1


@dataclass(frozen=True)
class Comparison:
    """A comparison of two networks on the same labeled images."""

    accuracies: tuple[float, float]
    """Top-1 of float and int8, in percent."""
    agreeing: int
    """Images on which both have the same top-1 class."""
    images: int
    """Images compared."""
    speeds: tuple[float, float]
    """Images per second of float and int8, measured in turns."""
    batch: int
    """Batch size when speed was measured."""

    @property
    def drop(self) -> float:
        """Points of top-1 that int8 costs."""
        return self.accuracies[0] - self.accuracies[1]


def replace_by_int8(opened: OpenedNetwork, image_size: int, options: ExportOptions, path: Path) -> list[str]:
    """Replace a verified `.onnx` file by its int8 version; return lines about accuracy and speed.

    Args:
        opened: The network.
        image_size: Side of the images in pixels.
        options: The flags of the export.
        path: The file.

    Raises:
        UserError: when it costs more than `--int8_tolerance`, or the images are not of the network's classes.
    """
    images = RealImages(opened, image_size, options.data, normalized=not options.normalize)
    if not images.known:
        raise UserError(
            f"--int8: the classes of {images.path!r} are not those of {opened.name!r}, so top-1 means nothing; give "
            "its dataset by --data."
        )
    print(f"quantizing with {CALIBRATION} training images of {images.path}", flush=True)
    new = path.with_name(f"{path.stem}_int8{path.suffix}")
    try:
        with silenced():
            quantize(path, new, images.training(CALIBRATION))
        networks = [onnx_runtime.load(file) for file in (path, new)]
        found = compare(networks[0], networks[1], *images.validation(_MAX_IMAGES), options.batch)
        _check_drop(found, images.path, options)
        lines = _lines(found, images.path, size(path), size(new))
        new.replace(path)
    finally:
        remove(new)
    return lines


def _check_drop(found: Comparison, data: str, options: ExportOptions) -> None:
    allowed = _TOLERANCE if options.int8_tolerance is None else options.int8_tolerance
    if found.drop > allowed:
        raise UserError(
            f"--int8: top-1 falls from {found.accuracies[0]:.2f} to {found.accuracies[1]:.2f} % on {found.images} "
            f"validation images of {data} (allowed are {allowed:g} points, by --int8_tolerance). Nothing was written "
            f"to {str(options.path)!r}."
        )


def _lines(found: Comparison, data: str, before: int, after: int) -> list[str]:
    (float_, int8_), (slow, fast) = found.accuracies, found.speeds
    return [
        f"int8: top-1 {int8_:.2f} % (float {float_:.2f} %) on {found.images} validation images of {data}; the "
        f"same class on {found.agreeing}",
        f"int8: {fast:.0f} images/s (float {slow:.0f}), {after / 1e6:.1f} MB (float {before / 1e6:.1f}); batches of "
        f"{found.batch}, {counted(torch.get_num_threads(), 'thread')}, {processor()}",
    ]


def quantize(source: Path, path: Path, images: Iterable[Tensor]) -> None:
    """Write an int8 version of an `.onnx` file, with the same metadata: weights per channel, activations calibrated.

    Args:
        source: A file as `onnx_runtime.save` writes it.
        path: The new file.
        images: Batches `(1, 3, S, S)` to calibrate with, as the network takes them.
    """
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with TemporaryDirectory(prefix="shvit_pl_int8_") as folder:
        prepared = Path(folder) / "prepared.onnx"
        quant_pre_process(source, prepared, skip_symbolic_shape=True)
        quantize_static(
            prepared,
            path,
            _reader(images),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=_QUANTIZED,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
    onnx_runtime.write_metadata(path, {**onnx_runtime.read_metadata(source), "quantized": "int8: convolutions"})


def _reader(images: Iterable[Tensor]) -> Any:
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):
        """The batches, one after another."""

        def __init__(self) -> None:
            self.batches: Iterator[Tensor] = iter(images)

        def get_next(self) -> dict[str, Any] | None:
            """Return the next batch; None after the last."""
            batch = next(self.batches, None)
            return None if batch is None else {"images": batch.numpy()}

    return Reader()


@torch.inference_mode()
def compare(before: nn.Module, after: nn.Module, images: Tensor, labels: Tensor, batch: int | None) -> Comparison:
    """Compare accuracy, agreement and speed of two networks.

    Args:
        before: The float network.
        after: The int8 network.
        images: Validation images `(N, 3, S, S)`.
        labels: Classes `(N,)`.
        batch: The only batch size that they take; None for any.
    """
    size = batch or _BATCH
    whole = len(images) // size * size
    classes = [_classes(network, images[:whole], size) for network in (before, after)]
    rates = images_per_second({0: before, 1: after}, images[:size], rounds=5)
    return Comparison(
        accuracies=(_percent(classes[0] == labels[:whole]), _percent(classes[1] == labels[:whole])),
        agreeing=int((classes[0] == classes[1]).sum()),
        images=whole,
        speeds=(rates[0].median, rates[1].median),
        batch=size,
    )


def _classes(network: nn.Module, images: Tensor, batch: int) -> Tensor:
    return torch.cat([network(part).argmax(-1) for part in images.split(batch)])  # type: ignore[no-untyped-call]


def _percent(right: Tensor) -> float:
    return 100 * right.float().mean().item()
