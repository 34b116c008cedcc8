"""Detectors by name: built, opened from a run, saved as files of a repo, and opened from these."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from huggingface_hub import hf_hub_download
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from shvit_pl.designs.config import DesignConfig
from shvit_pl.designs.design import Design
from shvit_pl.designs.detector import DetectorConfig
from shvit_pl.errors import UserError, one_line
from shvit_pl.hub_errors import go_offline_if_unreachable, why_no_model
from shvit_pl.models.detection.mask_rcnn import MaskRCNN
from shvit_pl.models.detection.retinanet import RetinaNet
from shvit_pl.models.network_names import DETECTORS, NetworkName, find_network, find_weights
from shvit_pl.models.weights import NoAverageError, read_checkpoint, tensors_in
from shvit_pl.runs.folder import FinishedRun

WEIGHTS, SETTINGS = "model.safetensors", "config.json"
_IMAGES = ("min_size", "max_size", "exif_rotation", "intensity_range")  # settings that images are read by
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
    """Data settings of its run, by the fields of `ObjectsConfig`; of saved ones, those that images are read by."""
    averaged: bool
    """True where the weights are a moving average."""
    best_score: float | None
    """The score of the best F1 in the run's validation."""
    file: Path
    """Where the weights are from."""


def is_detector(name: str) -> bool:
    """Return whether a name is that of a run or checkpoint of detection, or of files that `save_detector` has written.

    Raises `UserError` for an unknown name.
    """
    source = find_network(name)
    if source.kind == "checkpoint":
        return bool(read_checkpoint(source.place, flag="")["task"] == "detection")
    if source.kind not in ("folder", "hub"):
        return False
    try:
        return str(json.loads(_file_of(source, SETTINGS).read_text())["architecture"]).startswith(DETECTORS)
    except (OSError, ValueError, LookupError, TypeError):
        return False


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
        return _open_saved(source)
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


def save_detector(opened: OpenedDetector, folder: Path) -> None:
    """Write `model.safetensors` and `config.json` into a folder, by which `open_detector` opens it."""
    save_file({key: tensor.contiguous() for key, tensor in opened.model.state_dict().items()}, folder / WEIGHTS)
    config = {
        "architecture": f"{DETECTORS}{opened.config.name}",
        "library_name": "shvit-pl",
        "design": asdict(opened.design),
        "detector": asdict(opened.config),
        "label_names": opened.class_names,
        "category_ids": opened.category_ids,
        **{name: opened.data[name] for name in _IMAGES},
        "mean": IMAGENET_DEFAULT_MEAN,
        "std": IMAGENET_DEFAULT_STD,
        "best_score": opened.best_score,
    }
    (folder / SETTINGS).write_text(json.dumps(config, indent=2) + "\n")


def _file_of(source: NetworkName, name: str) -> Path:
    """Return a file of a folder or repo; raises `UserError` where the Hub does not give it."""
    if source.kind == "folder":
        return Path(source.place, name)
    go_offline_if_unreachable()
    repo, _, revision = source.place.partition("@")
    try:
        return Path(hf_hub_download(repo, name, revision=revision or None))
    except Exception as error:  # the Hub's client raised it
        raise UserError(f"{source.name!r}: {why_no_model(error, source.place)}") from error


class DetectorSettings(NamedTuple):
    """The settings in a saved detector's `config.json`."""

    design: DesignConfig
    config: DetectorConfig
    class_names: list[str]
    category_ids: list[int]
    data: dict[str, Any]
    """Those that images are read by, as fields of `ObjectsConfig`."""
    best_score: float | None


def saved_settings(name: str) -> DetectorSettings:
    """Read the settings of a folder or repo that `save_detector` has written; raises `UserError` for any other."""
    settings = _file_of(find_network(name), SETTINGS)
    try:
        saved = json.loads(settings.read_text())
        if not str(saved["architecture"]).startswith(DETECTORS):
            raise UserError(f"{name!r}: its architecture is {saved['architecture']}, which is no detector of shvit-pl.")
        return DetectorSettings(
            DesignConfig(**saved["design"]),
            DetectorConfig(**saved["detector"]),
            list(saved["label_names"]),
            list(saved["category_ids"]),
            {name: saved[name] for name in _IMAGES},
            saved.get("best_score"),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, UserError):
            raise
        reason = f"{SETTINGS}: {one_line(error)[:120]}"
        raise UserError(f"{name!r}: no detector that shvit-pl push has written ({reason}). Give another.") from error


def ids_and_scores(name: str) -> tuple[list[int] | None, dict[str, float | None]]:
    """Return the dataset's own numbers of the classes of weights, and the scores of the best F1 by `val` and `val_ema`.

    None and nothing where the weights are not a detector's of ours.
    """
    source = find_weights(name)
    if source.kind == "checkpoint":
        try:
            content = read_checkpoint(source.place, flag="")
        except UserError:  # another program's
            return None, {}
        return content["category_ids"] or None, content["best_scores"]
    if source.kind not in ("folder", "hub") or not is_detector(name):
        return None, {}
    saved = saved_settings(name)
    return saved.category_ids, {"val": saved.best_score}


def _open_saved(source: NetworkName) -> OpenedDetector:
    saved, weights = saved_settings(source.name), _file_of(source, WEIGHTS)
    model = build_detector(saved.design.resolved, saved.config, len(saved.class_names))
    try:
        model.load_state_dict(load_file(weights))
    except (OSError, RuntimeError, SafetensorError) as error:
        raise UserError(f"{source.name!r}: {WEIGHTS} is not of its {SETTINGS} ({one_line(error)[:120]}).") from error
    settings = saved._asdict()
    return OpenedDetector(name=source.name, model=model.eval(), averaged=False, file=weights, **settings)
