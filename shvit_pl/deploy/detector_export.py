"""The export of a detector: a graph with NMS for one image, or a dense one; verified on images of its data."""

import json
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.ops import box_iou

from shvit_pl import __version__
from shvit_pl.data.objects.config import SCENES
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
_OUTPUTS = {False: ("boxes", "scores", "labels"), True: ("boxes", "scores")}  # by whether the graph is dense


class _Graph(nn.Module):
    """A detector's graph with normalization before it, of pixels from 0 to 1."""

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
    pictures = torch.cat(list(_pictures(data, side, normalized=not options.normalize)))
    names, batch = _OUTPUTS[options.dense], 1 if not options.dense else options.batch
    say(f"converting {opened.name} ({side} px) to {options.format}")
    with replacing(options.path) as partial:
        kind: Any = DenseDetector if options.dense else Detector
        graph = kind(fused(opened.model), (side, side)).eval()
        graph = _Graph(graph, data) if options.normalize else graph
        settings: dict[str, Any] = {"dynamic": batch is None} if options.spec.dynamic else {}
        if options.format == "onnx":
            settings |= {"outputs": names, **({"opset": options.opset} if options.opset else {})}
        example = pictures[:1].repeat(batch or 2, 1, 1, 1)
        with converter_errors("the converter can't write this network", options):
            metadata = _metadata(opened, options, data, side)
            formats.CONVERTERS[options.format].save(graph, example, partial, metadata, **settings)
        verified = f"saved, not run: {options.spec.runs_as} runs on macOS only"
        if options.spec.runs_here:
            say(f"verifying it with {options.spec.runs_as} on {len(pictures)} {source}")
            with converter_errors(f"{options.spec.runs_as} can't run the file", options):
                exported = formats.CONVERTERS[options.format].load(partial)
                verified = _compared(graph, exported, opened, options, pictures, side)
        with silenced():
            details = formats.CONVERTERS[options.format].describe(partial)
    pixels = "RGB pixels from 0 to 1" if options.normalize else "normalized RGB"
    found = (
        f"{', '.join(names)}: all of them, before NMS" if options.dense else f"{', '.join(names)} after NMS, in pixels"
    )
    return {
        "file": f"{options.path}, {size(options.path) / 1e6:.1f} MB, {options.format}",
        "input": f"images: ({batch or 'any'}, 3, {side}, {side}), {pixels}, padded with 0 below and to the right",
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
    for flag, value in (("softmax", options.softmax), ("int8", options.int8), ("dtype", options.dtype == "fp16")):
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
        settings |= {"path": options.data, "validation_split": None}
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


def _pictures(data: ObjectsDataModule, side: int, normalized: bool) -> Iterator[Tensor]:
    """Yield up to 64 images `(1, 3, side, side)`, evenly spaced, as a graph takes them."""
    rows, reader = data.chosen.by_stage["predict"], data.reader("predict")
    for index in torch.linspace(0, len(rows) - 1, min(_COMPARED, len(rows))).long().tolist():
        item = reader.read(rows[index], "")
        if item["broken"]:
            continue
        height, width = item["image"].shape[1:]
        image = nn.functional.pad(item["image"], (0, side - width, 0, side - height))[None]
        batch = {"image": image, "sizes": [(height, width)]}
        yield finish(batch, data.mean, data.std)["image"] if normalized else image / 255


@torch.no_grad()
def _compared(
    graph: nn.Module, exported: Any, opened: OpenedDetector, options: ExportOptions, pictures: Tensor, side: int
) -> str:
    """Say how a file differs from the network; raises `UserError` where it finds other objects."""
    if options.dense:
        batches = [pictures[:1], pictures[1:4]] if options.batch is None else [pictures[: options.batch]]
        pairs = [(graph(batch), exported(batch)) for batch in batches if len(batch)]
        moved, changed = (max(float((one[i] - other[i]).abs().max()) for one, other in pairs) for i in (0, 1))
        if moved > _PIXELS or changed > _SCORE:
            raise _differs(options, f"boxes by {moved:.1e} pixels and scores by {changed:.1e}")
        sizes = ", ".join(str(len(batch)) for batch in batches if len(batch))
        return f"boxes {moved:.1e} pixels, scores {changed:.1e} at most, in batches of {sizes}"
    original = graph if options.normalize else opened.model
    total = alone = ties = 0
    largest = [0.0, 0.0]
    for picture in torch.split(pictures, 1):
        boxes, scores, labels = graph(picture) if options.normalize else _found(original(picture, [(side, side)]))
        other_boxes, other_scores, other_labels = exported(picture)
        moved = (boxes[:, None] - other_boxes).abs().amax(2)
        changed = (scores[:, None] - other_scores).abs()
        equal = (labels[:, None] == other_labels) & (changed <= _SCORE)
        same = equal & (moved <= _PIXELS)
        # where scores are nearly equal, rounding decides which of two boxes NMS keeps
        alike = equal & (box_iou(boxes, other_boxes) > opened.config.nms)
        for axis in (0, 1):
            total += same.shape[1 - axis]
            alone += int((~(same | alike).any(axis)).sum())
            ties += int((alike.any(axis) & ~same.any(axis)).sum())
        if same.any():
            largest = [max(old, float(new[same].max())) for old, new in zip(largest, (moved, changed), strict=True)]
    if alone > _ALONE * total:
        raise _differs(options, f"{alone} of {counted(total, 'object')} of both have no partner")
    tied = f", {ties} of {total} in another of two boxes with equal scores" if ties else ""
    return (
        f"the same {counted(total // 2, 'object')} in {counted(len(pictures), 'image')}; boxes {largest[0]:.1e} "
        f"pixels, scores {largest[1]:.1e} at most{tied}"
    )


def _found(objects: list[dict[str, Tensor]]) -> tuple[Tensor, Tensor, Tensor]:
    return objects[0]["boxes"], objects[0]["scores"], objects[0]["labels"]


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
        "input": pixels if options.normalize else f"{pixels}, then (pixels - mean) / std, 0 where padded",
        "output": " and ".join(_OUTPUTS[options.dense]),
        "image_size": str(side),
        "resize": "longer side to image_size, padded below and to the right",
        "mean": json.dumps(list(data.mean)),
        "std": json.dumps(list(data.std)),
        "labels": json.dumps(opened.class_names),
        "category_ids": json.dumps(opened.category_ids),
        "best_score": json.dumps(opened.best_score),
    }
