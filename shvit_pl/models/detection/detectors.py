"""Detectors by name: built, opened from a run, saved as files of a repo, and opened from these."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import hf_hub_download
from safetensors.torch import load_file, save_file
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from shvit_pl.designs.config import DesignConfig
from shvit_pl.designs.design import Design
from shvit_pl.designs.detector import DetectorConfig
from shvit_pl.errors import UserError, one_line
from shvit_pl.hub_errors import go_offline_if_unreachable, why_no_model
from shvit_pl.models.detection.mask_rcnn import MaskRCNN
from shvit_pl.models.detection.retinanet import RetinaNet
from shvit_pl.models.network_names import NetworkName, find_network
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
    design: DesignConfig
    config: DetectorConfig
    class_names: list[str]
    """Index by index."""
    category_ids: list[int]
    """The dataset's own number of each class."""
    data: Mapping[str, Any]
    """Data settings of its run, by the fields of `ObjectsConfig`; of saved ones, the sizes alone."""
    averaged: bool
    """True where the weights are a moving average."""
    best_score: float | None
    """The score of the best F1 in the run's validation."""
    file: Path
    """Where the weights are from."""


WEIGHTS, SETTINGS = "model.safetensors", "config.json"


def is_detector(name: str) -> bool:
    """Return whether a name is that of a run or checkpoint of detection."""
    source = find_network(name)
    return source.kind == "checkpoint" and read_checkpoint(source.place, flag="")["task"] == "detection"


def open_detector(name: str, averaged: bool | None = None) -> OpenedDetector:
    """Open a detector.

    Args:
        name: A run, a checkpoint, a folder that `save_detector` has written, or a repo of the Hub with its files.
        averaged: Take averaged weights (default: those that the run's monitor selected); of a run or checkpoint.

    Raises `UserError` for any other name, and for weights that it does not have.
    """
    source = find_network(name)
    if source.kind == "checkpoint":
        return _open_checkpoint(name, Path(source.place), averaged)
    if source.kind in ("folder", "hub"):
        return _open_saved(name, *_files_of(source))
    raise UserError(f"{name!r}: no detector. Give a run of detection, its checkpoint, or a repo that push has written.")


def _open_checkpoint(name: str, file: Path, averaged: bool | None) -> OpenedDetector:
    content = read_checkpoint(str(file), flag="", weights=True)
    if content["task"] != "detection":
        raise UserError(f"{name!r}: no detector, but a network of {content['task']}. Give a run of detection.")
    settings = content["model"]
    if averaged is None:
        run = FinishedRun.of_checkpoint(file)
        averaged = run is not None and run.averaged
    if averaged and not settings["ema"]["decay"]:
        raise NoAverageError(f"{name!r}: it has no averaged weights (its model.ema.decay was 0).")
    design, config = DesignConfig(**settings["design"]), DetectorConfig(**settings["detector"])
    classes = list(settings["class_names"])
    model = build_detector(design.resolved, config, len(classes))
    model.load_state_dict(tensors_in(str(file), {"state_dict": content["weights"]}, averaged))
    ids, score = content["category_ids"] or range(len(classes)), content["best_scores"]
    best = score.get("val_ema" if averaged else "val")
    return OpenedDetector(name, model.eval(), design, config, classes, list(ids), content["data"], averaged, best, file)


_PREFIX = "shvit_pl."  # of the architecture in config.json
_SIZES = ("min_size", "max_size")


def save_detector(opened: OpenedDetector, folder: Path) -> None:
    """Write `model.safetensors` and `config.json` into a folder, by which `open_detector` opens it."""
    save_file({key: tensor.contiguous() for key, tensor in opened.model.state_dict().items()}, folder / WEIGHTS)
    config = {
        "architecture": f"{_PREFIX}{opened.config.name}",
        "library_name": "shvit-pl",
        "design": asdict(opened.design),
        "detector": asdict(opened.config),
        "label_names": opened.class_names,
        "category_ids": opened.category_ids,
        **{name: opened.data[name] for name in _SIZES},
        "mean": IMAGENET_DEFAULT_MEAN,
        "std": IMAGENET_DEFAULT_STD,
        "best_score": opened.best_score,
    }
    (folder / SETTINGS).write_text(json.dumps(config, indent=2) + "\n")


def _files_of(source: NetworkName) -> tuple[Path, Path]:
    """Return `config.json` and `model.safetensors` of a folder or repo."""
    if source.kind == "folder":
        return Path(source.place, SETTINGS), Path(source.place, WEIGHTS)
    go_offline_if_unreachable()
    repo, _, revision = source.place.partition("@")
    try:
        settings, weights = (
            Path(hf_hub_download(repo, file, revision=revision or None)) for file in (SETTINGS, WEIGHTS)
        )
    except Exception as error:  # the Hub's client raised it
        raise UserError(f"{source.name!r}: {why_no_model(error, source.place)}") from error
    return settings, weights


def _open_saved(name: str, settings: Path, weights: Path) -> OpenedDetector:
    try:
        saved = json.loads(settings.read_text())
        if not str(saved["architecture"]).startswith(_PREFIX):
            raise UserError(f"{name!r}: its architecture is {saved['architecture']}, which is no detector of shvit-pl.")
        design, config = DesignConfig(**saved["design"]), DetectorConfig(**saved["detector"])
        classes, ids = list(saved["label_names"]), list(saved["category_ids"])
        data = {name: int(saved[name]) for name in _SIZES}
    except (OSError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, UserError):
            raise
        reason = f"{SETTINGS}: {one_line(error)[:120]}"
        raise UserError(f"{name!r}: no detector that shvit-pl push has written ({reason}). Give another.") from error
    model = build_detector(design.resolved, config, len(classes))
    model.load_state_dict(load_file(weights))
    return OpenedDetector(
        name, model.eval(), design, config, classes, ids, data, False, saved.get("best_score"), weights
    )
