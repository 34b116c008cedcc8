"""Detectors by name: built, or opened from a run or checkpoint of detection."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shvit_pl.designs.config import DesignConfig
from shvit_pl.designs.design import Design
from shvit_pl.designs.detector import DetectorConfig
from shvit_pl.errors import UserError
from shvit_pl.models.detection.mask_rcnn import MaskRCNN
from shvit_pl.models.detection.retinanet import RetinaNet
from shvit_pl.models.network_names import find_network
from shvit_pl.models.weights import NoAverageError, read_checkpoint, tensors_in
from shvit_pl.runs.folder import FinishedRun

_KINDS: dict[str, Any] = {"retinanet": RetinaNet, "mask_rcnn": MaskRCNN}


def build_detector(design: Design, config: DetectorConfig, classes: int) -> Any:
    """Build RetinaNet or Mask R-CNN on a design, for so many classes."""
    return _KINDS[config.name](design, config, classes)


@dataclass(frozen=True)
class OpenedDetector:
    """A detector with its images and classes."""

    name: str
    """The name that it was opened by."""
    model: Any
    """On the CPU, in evaluation mode."""
    config: DetectorConfig
    class_names: list[str]
    """Index by index."""
    category_ids: list[int]
    """The dataset's own number of each class."""
    data: Mapping[str, Any]
    """Data settings of its run, by the fields of `ObjectsConfig`."""
    averaged: bool
    """True where the weights are a moving average."""
    best_score: float | None
    """The score of the best F1 in the run's validation."""
    checkpoint: Path


def is_detector(name: str) -> bool:
    """Return whether a name is that of a run or checkpoint of detection."""
    source = find_network(name)
    return source.kind == "checkpoint" and read_checkpoint(source.place, flag="")["task"] == "detection"


def open_detector(name: str, averaged: bool | None = None) -> OpenedDetector:
    """Open a run or checkpoint; `averaged` takes averaged weights (default: those that the run's monitor selected).

    Raises `UserError` for any other name, and for weights that it does not have.
    """
    file = Path(find_network(name).place)
    content = read_checkpoint(str(file), flag="", weights=True)
    if content["task"] != "detection":
        raise UserError(f"{name!r}: no detector, but a network of {content['task']}. Give a run of detection.")
    settings = content["model"]
    if averaged is None:
        run = FinishedRun.of_checkpoint(file)
        averaged = run is not None and run.averaged
    if averaged and not settings["ema"]["decay"]:
        raise NoAverageError(f"{name!r}: it has no averaged weights (its model.ema.decay was 0).")
    config, classes = DetectorConfig(**settings["detector"]), list(settings["class_names"])
    model = build_detector(DesignConfig(**settings["design"]).resolved, config, len(classes))
    model.load_state_dict(tensors_in(str(file), {"state_dict": content["weights"]}, averaged))
    ids, score = content["category_ids"] or range(len(classes)), content["best_scores"]
    return OpenedDetector(
        name,
        model.eval(),
        config,
        classes,
        list(ids),
        content["data"],
        averaged,
        score.get("val_ema" if averaged else "val"),
        file,
    )
