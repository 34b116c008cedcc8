"""Contents of a repository beside a run's records: of a classifier, of a detector, or of a detector's backbone."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from timm.models import save_for_hf
from torch import nn

from shvit_pl.command_line.parser import check_extra
from shvit_pl.deploy.detector_export import write_graph
from shvit_pl.deploy.options import ExportOptions
from shvit_pl.designs.detector import MASKS
from shvit_pl.display import say
from shvit_pl.errors import UserError, one_line
from shvit_pl.hub.card import write_card
from shvit_pl.hub.detector_card import GRAPH, write_backbone_card, write_detector_card
from shvit_pl.hub.target import Target
from shvit_pl.models.detection.detectors import open_detector, save_detector
from shvit_pl.models.open_network import open_network
from shvit_pl.models.shvit import build_network
from shvit_pl.models.weights import settings_for_timm
from shvit_pl.runs.folder import FinishedRun, SweepChoice

WEIGHTS = ("config.json", "model.safetensors")
FILES = (*WEIGHTS, GRAPH)


@dataclass(frozen=True)
class Content:
    """The contents of a repository."""

    write: Callable[[FinishedRun, Path], None]
    """Write the weights with their config.json, and `files`, into a folder."""
    card: Callable[[FinishedRun, Path, Target, SweepChoice | None], None]
    """Write the card into that folder."""
    use: Callable[[FinishedRun, Target], str]
    """Return the line of Python that loads it."""
    figures: tuple[str, ...] = ("curves.png",)
    """Of the run; none shows images."""
    pictures: tuple[str, ...] = ()
    """Those that show images, which are pushed of embedded data alone."""
    files: tuple[str, ...] = ()
    """Further files, which a push deletes where it no longer has them."""


def content_of(run: FinishedRun, backbone: bool = False) -> Content:
    """Return what is pushed of a run; raises `UserError` for the `backbone` of another run than a detector's."""
    if backbone and run.task != "detection":
        raise UserError("--backbone: for a detector's run; leave it out, as timm loads this network whole.")
    return _CONTENTS["backbone" if backbone else run.task]


# ---- a classifier


def save_weights(run: FinishedRun, folder: Path) -> None:
    """Write `model.safetensors` and timm's `config.json` of a run's weights into a folder.

    Two classifiers are merged into one, exactly. S1 to S4 are saved under timm's own names. Raises `UserError` for an
    incomplete checkpoint.
    """
    opened = open_network(str(run.checkpoint), run.averaged)
    settings = settings_for_timm(
        {"image_size": opened.image_size, "resize": opened.resize, "crop_pct": opened.crop_pct}, opened.class_names
    )
    settings |= {"mean": opened.mean, "std": opened.std}
    _save_for_timm(opened.model, folder, settings)


def _save_for_timm(network: nn.Module, folder: Path, settings: dict[str, Any]) -> None:
    """Write `model.safetensors` and timm's `config.json`, by `settings_for_timm`; without class names, a backbone's."""
    names = settings.pop("label_names")
    save_for_hf(
        network,
        str(folder),
        safe_serialization=True,
        data_config=settings,
        model_config={**({"label_names": names} if names else {}), "pretrained_cfg": {"tag": ""}},
    )
    config = json.loads((folder / "config.json").read_text())
    config["model_args"].pop("num_classes")  # transformers fails where timm repeats it there
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def _use_classifier(run: FinishedRun, target: Target) -> str:
    return f'{_imports(run)}; timm.create_model("{target.source}", pretrained=True)'


def _imports(run: FinishedRun) -> str:
    return "import timm" if run.evaluated_design.timm_name else "import shvit_pl.models, timm"


# ---- a detector


def _save_detector(run: FinishedRun, folder: Path) -> None:
    """Write the detector, and its graph where it has one; a file that can't be made is left out, and why is said."""
    opened = open_detector(str(run.checkpoint), run.averaged)
    save_detector(opened, folder)
    if opened.config.name in MASKS:
        return
    try:
        check_extra("it", "onnx")
        options = ExportOptions(network=str(run.checkpoint), format="onnx", output=str(folder / GRAPH))
        say(f"{GRAPH}: {write_graph(opened, options)['difference']}")
    except UserError as error:
        say(f"without {GRAPH}: {one_line(error).partition(' Nothing was written')[0]}")


def _use_detector(run: FinishedRun, target: Target) -> str:
    return f'import shvit_pl; shvit_pl.load("{target.place}")("image.jpg")'


# ---- its backbone


def _save_backbone(run: FinishedRun, folder: Path) -> None:
    opened = open_detector(str(run.checkpoint), run.averaged)
    network = build_network(run.evaluated_design, num_classes=0)
    network.load_state_dict(opened.model.backbone.net.state_dict())
    settings = settings_for_timm({"image_size": run.image_size, "resize": "squash"}, None)
    _save_for_timm(network, folder, settings | {"interpolation": "bilinear"})


def _use_backbone(run: FinishedRun, target: Target) -> str:
    return f'{_imports(run)}; timm.create_model("{target.source}", pretrained=True, features_only=True)'


_OF_CLASSIFIER = ("curves.png", "confusion_matrix.png", "reliability.png", "robustness.png")
_OF_DETECTOR = ("curves.png", "class_ap.png", "precision_recall.png")
_CONTENTS = {
    "classification": Content(save_weights, write_card, _use_classifier, _OF_CLASSIFIER),
    "detection": Content(
        _save_detector, write_detector_card, _use_detector, _OF_DETECTOR, ("detections.png",), (GRAPH,)
    ),
    "backbone": Content(_save_backbone, write_backbone_card, _use_backbone),
}
