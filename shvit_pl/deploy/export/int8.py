"""An ONNX file in int8: onnxruntime's static quantisation, with its accuracy and speed beside those of float."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

from shvit_pl.deploy.export import onnx_format
from shvit_pl.deploy.timing import images_per_second

CALIBRATION = 128  # images
# Convolutions are nearly all of the work. Attention's products, GroupNorm, softmax and the classifier stay in float:
# they are little work, and lose most by rounding.
_QUANTISED = ["Conv"]
_BATCH = 8  # images, when speed is measured


@dataclass(frozen=True)
class Comparison:
    """Two networks on the same labelled images, and the speed of both.

    Attributes:
        accuracies: Top-1 of float and int8, in percent.
        agreeing: Images of which both name the same class.
        images: Images compared.
        speeds: Images per second of float and int8, measured in turns.
        batch: Images at once, when speed was measured.
    """

    accuracies: tuple[float, float]
    agreeing: int
    images: int
    speeds: tuple[float, float]
    batch: int

    @property
    def drop(self) -> float:
        """Points of top-1 that int8 costs."""
        return self.accuracies[0] - self.accuracies[1]


def quantise(source: Path, path: Path, images: Iterable[Tensor]) -> None:
    """Write an int8 version of an `.onnx` file, with the same metadata: weights per channel, activations calibrated.

    Args:
        source: A file as `onnx_format.save` writes it.
        path: The new file.
        images: To calibrate with: batches `(1, 3, S, S)` as the network takes them.
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
            op_types_to_quantize=_QUANTISED,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
    onnx_format.write_metadata(path, {**onnx_format.read_metadata(source), "quantised": "int8: convolutions"})


def _reader(images: Iterable[Tensor]) -> Any:
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):
        """onnxruntime asks for one batch after another."""

        def __init__(self) -> None:
            self.batches: Iterator[Tensor] = iter(images)

        def get_next(self) -> dict[str, Any] | None:
            """The next batch; None after the last."""
            batch = next(self.batches, None)
            return None if batch is None else {"images": batch.numpy()}

    return Reader()


@torch.inference_mode()
def compare(before: nn.Module, after: nn.Module, images: Tensor, labels: Tensor, batch: int | None) -> Comparison:
    """Accuracy, agreement and speed of two networks.

    Args:
        before: The float network.
        after: The int8 network.
        images: `(N, 3, S, S)`, of validation.
        labels: `(N,)`.
        batch: The only size of a batch that they take; None: any.
    """
    size = batch or _BATCH
    whole = len(images) // size * size
    answers = [_classes(network, images[:whole], size) for network in (before, after)]
    rates = images_per_second({0: before, 1: after}, images[:size], rounds=5)
    return Comparison(
        accuracies=(_percent(answers[0] == labels[:whole]), _percent(answers[1] == labels[:whole])),
        agreeing=int((answers[0] == answers[1]).sum()),
        images=whole,
        speeds=(rates[0].median, rates[1].median),
        batch=size,
    )


def _classes(network: nn.Module, images: Tensor, batch: int) -> Tensor:
    return torch.cat([network(part).argmax(-1) for part in images.split(batch)])  # type: ignore[no-untyped-call]


def _percent(right: Tensor) -> float:
    return 100 * right.float().mean().item()
