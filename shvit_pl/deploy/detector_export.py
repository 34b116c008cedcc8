"""The export of a detector: a graph with NMS for one image, or a dense one; verified on images of its data."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.ops import box_iou

from shvit_pl import __version__
from shvit_pl.data.objects.config import DATASET_SETTINGS, SCENES, ObjectsConfig
from shvit_pl.data.objects.datamodule import ObjectsDataModule
from shvit_pl.data.objects.reading import DIVISOR, finish
from shvit_pl.deploy import formats
from shvit_pl.deploy.export import converter_errors, silenced
from shvit_pl.deploy.options import ExportOptions
from shvit_pl.deploy.passes import fused
from shvit_pl.display import counted, say
from shvit_pl.errors import UserError, one_line, refuse
from shvit_pl.files import replacing, size
from shvit_pl.models.detection.detectors import OpenedDetector
from shvit_pl.models.detection.graph import DenseDetector, Detector

_COMPARED = 64  # images
_PIXELS, _SCORE = 1e-2, 1e-4  # allowed differences of boxes and scores
_ALONE = 0.01  # allowed share of objects that one of both finds alone: rounding moves them over a threshold
_PREPARED = {False: ("normalized RGB", "0"), True: ("RGB pixels from 0 to 1", "the mean")}  # and what is padded
_OUTPUTS = {False: ("boxes", "scores", "labels"), True: ("boxes", "scores")}  # by whether the graph is dense


class _Normalized(nn.Module):
    """A detector's graph with normalization before it, of pixels from 0 to 1 that are padded with the mean."""

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, data: ObjectsDataModule) -> None:
        super().__init__()
        self.network = network
        for name in ("mean", "std"):
            self.register_buffer(name, torch.tensor(getattr(data, name)).view(1, -1, 1, 1))

    def forward(self, images: Tensor) -> Any:
        """Map images `(B, 3, H, W)` to the graph's outputs."""
        return self.network((images - self.mean) / self.std)


def export_detector(opened: OpenedDetector, options: ExportOptions) -> None:
    """Write the file of the options, and print what was measured on it; raises `UserError` as `write_graph` does."""
    rows = write_graph(opened, options)
    say("", *(f"  {name:<11}{text}" for name, text in rows.items()))


def write_graph(opened: OpenedDetector, options: ExportOptions) -> dict[str, str]:
    """Write the file of the options, and return what is known and was measured of it, by name.

    Raises:
        UserError: for what a detector can't be exported as, where the converter fails, or where the file finds other
            objects than the network; nothing is written then.
    """
    refuse(_mistakes(opened, options))
    side = options.image_size or -(-int(opened.data["min_size"]) // DIVISOR) * DIVISOR
    data, source = _images_of(opened, options, side)
    read = list(_pictures(data, side))
    if not read:
        raise UserError(
            f"--data {data.config.path}: none of the images can be read. Give others, to verify the file on."
        )
    given = pictures = torch.cat(read)
    names, batch = _OUTPUTS[options.dense], 1 if not options.dense else options.batch
    say(f"converting {opened.name} ({side} px) to {options.format}")
    with replacing(options.path) as partial:
        kind: Any = DenseDetector if options.dense else Detector
        graph = kind(fused(opened.model), (side, side)).eval()
        if options.normalize:
            graph = _Normalized(graph, data)
            given = pictures * graph.std + graph.mean
        settings: dict[str, Any] = {"dynamic": batch is None} if options.spec.dynamic else {}
        if options.format == "onnx":
            settings |= {"outputs": names, **({"opset": options.opset} if options.opset else {})}
        example = given[:1].repeat(batch or 2, 1, 1, 1)
        with converter_errors("the converter can't write this network", options):
            metadata = _metadata(opened, options, data, side)
            formats.CONVERTERS[options.format].save(graph, example, partial, metadata, **settings)
        verified = f"saved, not run: {options.spec.runs_as} runs on macOS only"
        if options.spec.runs_here:
            say(f"verifying it with {options.spec.runs_as} on {len(pictures)} {source}")
            with converter_errors(f"{options.spec.runs_as} can't run the file", options):
                exported = formats.CONVERTERS[options.format].load(partial)
                verified = _compared(exported, opened, options, pictures, given)
        with silenced():
            details = formats.CONVERTERS[options.format].describe(partial)
    pixels, padding = _PREPARED[options.normalize]
    found = (
        f"{', '.join(names)}: all of them, before NMS" if options.dense else f"{', '.join(names)} after NMS, in pixels"
    )
    return {
        "file": f"{options.path}, {size(options.path) / 1e6:.1f} MB, {options.format}",
        "input": f"images: ({batch or 'any'}, 3, {side}, {side}), {pixels}, below and to the right {padding}",
        "output": f"{found}; {len(opened.class_names)} labels in the file",
        "": details[0],
        "difference": verified,
    }


def _mistakes(opened: OpenedDetector, options: ExportOptions) -> Iterator[str]:
    if opened.config.name != "retinanet":
        yield (
            f"--format {options.format}: {opened.config.name} has no graph, as its steps depend on what it finds. "
            "Export a RetinaNet, or use it by shvit-pl predict."
        )
    for flag, value in (
        ("softmax", options.softmax),
        ("int8", options.int8),
        ("dtype", options.dtype == "fp16"),
        ("tolerance", options.tolerance is not None),
    ):
        if value:
            yield f"--{flag}: for networks that classify images; leave it out with a detector."
    if not options.dense and options.format in ("coreml", "executorch"):
        yield f"--format {options.format}: it has no NMS; give --dense for all boxes and scores."
    if not options.dense and options.batch_size not in (None, 1):
        yield f"--batch_size {options.batch_size}: with NMS, one image at a time; leave it out, or give --dense."
    if options.image_size is not None and options.image_size % DIVISOR:
        yield f"--image_size {options.image_size}: for a detector, allowed are multiples of {DIVISOR}."


def _images_of(opened: OpenedDetector, options: ExportOptions, side: int) -> tuple[ObjectsDataModule, str]:
    """Open the images of the dataset `--data`, of the run, or else scenes of digits; returns their source in words."""
    settings = {**opened.data, "min_size": side, "max_size": side, "batch_size": 1, "num_workers": 0, "scales": None}
    if options.data:
        settings |= {name: value for name, value in asdict(ObjectsConfig()).items() if name in DATASET_SETTINGS}
        settings["path"] = options.data
    try:
        data = ObjectsDataModule(**settings)
        data.setup("predict")
    except UserError as error:
        if options.data:
            raise UserError(str(error).replace("data.path", "--data")) from error
        data = ObjectsDataModule(path=SCENES, min_size=side, max_size=side, batch_size=1, num_workers=0)
        data.setup("predict")
        return data, f"scenes of digits, as those of the run can't be read here: {one_line(error)[:200]}"
    return data, f"images of {data.config.path}"


def _pictures(data: ObjectsDataModule, side: int) -> Iterator[Tensor]:
    """Yield up to 64 images `(1, 3, side, side)`, evenly spaced, normalized and padded as the network takes them."""
    rows, reader = data.chosen.by_stage["predict"], data.reader("predict")
    for index in torch.linspace(0, len(rows) - 1, min(_COMPARED, len(rows))).long().tolist():
        item = reader.read(rows[index], "")
        if item["broken"]:
            continue
        height, width = item["image"].shape[1:]
        image = nn.functional.pad(item["image"], (0, side - width, 0, side - height))[None]
        yield finish({"image": image, "sizes": [(height, width)]}, data.mean, data.std)["image"]


@torch.no_grad()
def _compared(exported: Any, opened: OpenedDetector, options: ExportOptions, pictures: Tensor, given: Tensor) -> str:
    """Say how a file that is given images differs from the network; raises `UserError` where it finds other objects."""
    height, width = pictures.shape[-2:]
    if options.dense:
        network, batch = DenseDetector(opened.model, (height, width)), options.batch or 3
        rows = torch.arange(-(-len(pictures) // batch) * batch) % len(pictures)  # the last batch is filled up
        parts = [*([rows[:1]] if options.batch is None else []), *torch.split(rows, batch)]
        largest = [0.0, 0.0]
        for part in parts:
            outputs = zip(largest, network(pictures[part]), exported(given[part]), strict=True)
            largest = [max(old, float((own - other).abs().max())) for old, own, other in outputs]
        if largest[0] > _PIXELS or largest[1] > _SCORE:
            raise _differs(options, f"boxes by {largest[0]:.1e} pixels and scores by {largest[1]:.1e}")
        sizes = ", ".join(dict.fromkeys(str(len(part)) for part in parts))
        return f"boxes {largest[0]:.1e} pixels, scores {largest[1]:.1e} at most, in batches of {sizes}"
    total = alone = ties = 0
    largest = [0.0, 0.0]
    for picture, own in zip(torch.split(pictures, 1), torch.split(given, 1), strict=True):
        (found,) = opened.model(picture, [(height, width)])
        boxes, scores, labels = exported(own)
        moved = (found["boxes"][:, None] - boxes).abs().amax(2)
        changed = (found["scores"][:, None] - scores).abs()
        equal = (found["labels"][:, None] == labels) & (changed <= _SCORE)
        same = equal & (moved <= _PIXELS)
        # where scores are nearly equal, rounding decides which of two boxes NMS keeps
        alike = equal & (box_iou(found["boxes"], boxes) > opened.config.nms)
        for axis in (0, 1):
            total += same.shape[1 - axis]
            alone += int((~(same | alike).any(axis)).sum())
            ties += int((alike.any(axis) & ~same.any(axis)).sum())
        if same.any():
            largest = [max(old, float(new[same].max())) for old, new in zip(largest, (moved, changed), strict=True)]
    if alone > _ALONE * total:
        raise _differs(options, f"{alone} of {counted(total, 'object')} are found by one of both alone")
    tied = f", but for {counted(ties, 'near tie')} in NMS" if ties else ""
    return (
        f"the same {counted(total // 2, 'object')} in {counted(len(pictures), 'image')}; boxes {largest[0]:.1e} "
        f"pixels, scores {largest[1]:.1e} at most{tied}"
    )


def _differs(options: ExportOptions, how: str) -> UserError:
    return UserError(
        f"--format {options.format}: the file differs from the network: {how}. Nothing was written to "
        f"{str(options.path)!r}."
    )


def _metadata(opened: OpenedDetector, options: ExportOptions, data: ObjectsDataModule, side: int) -> dict[str, str]:
    """Return labels and what a program must know to prepare images, as text; lists are JSON."""
    pixels = "RGB pixels from 0 to 1"
    return {
        "made_by": f"shvit-pl {__version__}",
        "weights": "averaged" if opened.averaged else "raw",
        "input": f"{pixels}, mean where padded" if options.normalize else f"{pixels}, then (pixels - mean) / std",
        "output": " and ".join(_OUTPUTS[options.dense]),
        "image_size": str(side),
        "resize": "longer side to image_size; then below and to the right "
        f"{'the mean' if options.normalize else 'zeros, once normalized'}",
        "mean": json.dumps(list(data.mean)),
        "std": json.dumps(list(data.std)),
        "labels": json.dumps(opened.class_names),
        "category_ids": json.dumps(opened.category_ids),
        "best_score": json.dumps(opened.best_score),
    }
