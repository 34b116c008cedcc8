"""Average precision of boxes and masks, equal to pycocotools'."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import distributed
from torchmetrics import Metric
from torchvision.ops import box_convert

from shvit_pl.command_line.parser import check_extra

IOUS = np.linspace(0.5, 0.95, 10)  # in double precision: torchmetrics' own are not, and move the result
RECALLS = np.linspace(0, 1, 101)
_AREAS = {"": 0, "_small": 1, "_medium": 2, "_large": 3}  # in the evaluator's arrays
_MOST = 2  # there, 100 detections of an image
_KINDS = {"bbox": "", "segm": "mask_"}


@dataclass
class Results:
    """Metrics of all images. What has no objects, such as a class or a size, has no value: None, or no name."""

    metrics: dict[str, float] = field(default_factory=dict)
    """map, map_50, map_75, map_small, map_medium, map_large and mar_100; the same of masks, behind `mask_`."""
    class_ap: list[float | None] = field(default_factory=list)
    """By class."""
    mask_class_ap: list[float | None] = field(default_factory=list)
    """By class; empty without masks."""
    objects: list[int] = field(default_factory=list)
    """True objects by class, without crowds."""
    precision: list[float] = field(default_factory=list)
    """At IoU 0.5 and the recalls 0, 0.01, ..., 1: the mean over the classes; empty without objects."""
    mask_precision: list[float] = field(default_factory=list)
    """The same of masks."""
    score: float | None = None
    """The least score of detections to show, see `best_score`; None where none is right."""


class AveragePrecision(Metric):
    """COCO's metrics of detections, by faster-coco-eval; `compute` returns `Results`.

    Images may come in any order and in unequal numbers to the processes: they are evaluated in the order of their ids,
    as pycocotools does, so that equal scores rank in one order. All states are on the CPU.

    Args:
        classes: Number of classes; labels are from 0.
        masks: Measure masks, too.
        options: As of any `torchmetrics.Metric`.

    Raises `UserError` where the extra `detection` is not installed.
    """

    full_state_update = False
    higher_is_better = True
    is_differentiable = False

    images: list[dict[str, Any]]

    def __init__(self, classes: int, masks: bool = False, **options: Any) -> None:
        check_extra("average precision", "detection")
        super().__init__(**options)
        self.classes, self.masks = classes, masks
        self.add_state("images", default=[], dist_reduce_fx=None)

    def update(self, found: Sequence[Mapping[str, Any]], truth: Sequence[Mapping[str, Any]]) -> None:
        """Add images, with all coordinates in pixels of the original image.

        Args:
            found: Of each image, `boxes` `(N, 4)` (x1, y1, x2, y2), `labels` `(N,)`, `scores` `(N,)` and, of masks, the
                list `rles` of COCO's RLE dicts.
            truth: Of each image, `boxes`, `labels`, `area` `(N,)`, `iscrowd` `(N,)`, `rles`, `size` (H, W), and
                `image_id` in JSON.
        """
        for detections, objects in zip(found, truth, strict=True):
            image = {"id": objects["image_id"], "size": tuple(map(int, objects["size"]))}
            self.images.append({**image, "found": self._columns(detections), "truth": self._columns(objects)})

    def _columns(self, objects: Mapping[str, Any]) -> dict[str, Any]:
        """Return an image's objects in COCO's format, each key with the values of all."""
        boxes = box_convert(objects["boxes"].detach().cpu().double().reshape(-1, 4), "xyxy", "xywh")
        columns = {"bbox": boxes.numpy(), "category_id": objects["labels"].cpu().numpy()}
        if "scores" in objects:
            area = boxes[:, 2] * boxes[:, 3]
            columns |= {"score": objects["scores"].detach().cpu().double().numpy(), "area": area.numpy()}
        else:
            crowds = objects["iscrowd"].cpu().int()
            area = torch.as_tensor(objects["area"]).cpu().double()
            columns |= {"area": area.numpy(), "iscrowd": crowds.numpy()}
        return {**columns, "segmentation": list(objects["rles"])} if self.masks else columns

    def compute(self) -> Results:
        """Evaluate all images."""
        images = sorted(self.images, key=lambda image: _place(image["id"]))
        truth, found = (_dataset(images, part, self.classes) for part in ("truth", "found"))
        objects = [0] * self.classes
        scores: list[list[float]] = [[] for _ in objects]
        for each in truth.dataset["annotations"]:
            objects[each["category_id"]] += not each["iscrowd"]
        for each in found.dataset["annotations"]:
            scores[each["category_id"]].append(each["score"])
        results = Results(class_ap=[None] * self.classes, objects=objects)
        if self.masks:
            results.mask_class_ap = [None] * self.classes
        if not any(objects):
            return results
        for kind in ("bbox", "segm") if self.masks else ("bbox",):
            arrays = _evaluate(truth, found, kind)
            _add(results, _KINDS[kind], arrays)
            if kind == "bbox":
                present = np.flatnonzero(objects)
                reached_by = arrays["scores"][0][:, present, 0, _MOST]
                found_there, there = [scores[index] for index in present], [objects[index] for index in present]
                results.score = best_score(reached_by, found_there, there)
        return results

    def _sync_dist(self, dist_sync_fn: Any = None, process_group: Any = None) -> None:
        """Gather the images of all processes, of which each may have another number."""
        group = process_group or self.process_group
        gathered: list[Any] = [None] * distributed.get_world_size(group)
        distributed.all_gather_object(gathered, self.images, group=group)
        self.images = [image for images in gathered for image in images]

    def _apply(self, fn: Callable[..., Any], exclude_state: Sequence[str] = ()) -> torch.nn.Module:
        """Move to a device; the images stay on the CPU."""
        return super()._apply(fn, exclude_state=("images", *exclude_state))


def best_score(
    reached_by: NDArray[np.float64], found: Sequence[Sequence[float]], objects: Sequence[int]
) -> float | None:
    """Return the score, in thousandths, from which on detections have the best F1 at IoU 0.5: its mean over classes.

    F1 of a class at a score is 2 R / (D + N) of its D detections of this score or above, its N objects, and the R that
    are right: from the highest of the 101 recalls that they reach, so to a hundredth of N. Detections of crowds count
    as wrong. None where nothing is right.

    Args:
        reached_by: Scores of the detections by which the recalls are reached, `(101, classes)`; 0 where they are not.
        found: Scores of each class's detections.
        objects: Of each class, one or more.
    """
    candidates = np.unique(np.floor(reached_by[reached_by > 0] * 1000) / 1000)
    total = np.zeros(len(candidates))
    for by, scores, count in zip(np.where(reached_by > 0, reached_by, -1).T, found, objects, strict=True):
        right = np.concatenate([[0.0], np.ceil(RECALLS * count - 1e-9)])  # by number of recalls
        detections = np.searchsorted(np.sort(-np.asarray(scores)), -candidates, side="right")
        total += 2 * right[np.searchsorted(-by, -candidates, side="right")] / (detections + count)  # scores fall
    return float(candidates[total.argmax()]) if total.any() else None


def _place(image_id: str) -> tuple[bool, float, str]:
    """Return where pycocotools puts an image: numbers by value, texts by letters."""
    name = json.loads(image_id)
    return (True, 0.0, name) if isinstance(name, str) else (False, name, "")


def _dataset(images: Sequence[Mapping[str, Any]], part: str, classes: int) -> Any:
    """Return faster-coco-eval's data set of what was found, or is true, in images."""
    from faster_coco_eval import COCO

    annotations: list[dict[str, Any]] = []
    for number, image in enumerate(images):
        columns = {
            name: values if isinstance(values, list) else values.tolist() for name, values in image[part].items()
        }
        for values in zip(*columns.values(), strict=True):
            shared = {"id": len(annotations) + 1, "image_id": number, "iscrowd": 0}  # it can't take an id of 0
            annotations.append({**shared, **dict(zip(columns, values, strict=True))})
    data = COCO()
    data.dataset = {
        "images": [
            {"id": number, "height": each["size"][0], "width": each["size"][1]} for number, each in enumerate(images)
        ],
        "annotations": annotations,
        "categories": [{"id": number} for number in range(classes)],
    }
    data.createIndex()
    return data


def _evaluate(truth: Any, found: Any, kind: str) -> dict[str, NDArray[np.float64]]:
    """Return `precision` and `scores` `(10, 101, classes, 4, 3)`, and `recall` `(10, classes, 4, 3)`; -1 is none.

    The axes are IoU, recall, class, area and most detections of an image.
    """
    from faster_coco_eval import COCOeval_faster
    from faster_coco_eval.core import mask

    if kind == "segm":  # the size of a detection is its mask's
        detections = found.dataset["annotations"]
        areas = mask.area([each["segmentation"] for each in detections]) if detections else []
        for each, area in zip(detections, areas, strict=True):
            each["area"] = float(area)
    evaluator = COCOeval_faster(truth, found, kind)
    evaluator.params.iouThrs, evaluator.params.recThrs = IOUS, RECALLS
    evaluator.evaluate()
    evaluator.accumulate()
    return {name: np.asarray(evaluator.eval[name]) for name in ("precision", "recall", "scores")}


def _add(results: Results, prefix: str, arrays: Mapping[str, NDArray[np.float64]]) -> None:
    """Add what the evaluator's arrays of boxes or masks say to results."""
    precision, recall = arrays["precision"][..., _MOST], arrays["recall"][..., _MOST]
    values = {f"map{name}": precision[..., area] for name, area in _AREAS.items()}
    values |= {"map_50": precision[0, ..., 0], "map_75": precision[5, ..., 0], "mar_100": recall[..., 0]}
    means = {f"{prefix}{name}": _mean(each) for name, each in values.items()}
    results.metrics |= {name: mean for name, mean in means.items() if mean is not None}
    class_ap = [_mean(precision[..., index, 0]) for index in range(precision.shape[2])]
    present = [index for index, ap in enumerate(class_ap) if ap is not None]
    at_half = precision[0][:, present, 0]
    if prefix:
        results.mask_class_ap, results.mask_precision = class_ap, at_half.mean(axis=1).tolist()
    else:
        results.class_ap, results.precision = class_ap, at_half.mean(axis=1).tolist()


def _mean(values: NDArray[np.float64]) -> float | None:
    """Return the mean of those that are there."""
    known = values[values > -1]
    return float(known.mean()) if known.size else None
