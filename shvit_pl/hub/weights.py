"""A run's network, as timm saves it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models import save_for_hf

from shvit_pl.hub.ended import EndedRun
from shvit_pl.models import SHViT
from shvit_pl.models.checkpoint import read_checkpoint
from shvit_pl.models.open_network import network_of_checkpoint


def save_weights(run: EndedRun, folder: Path) -> SHViT:
    """Write `model.safetensors` and timm's `config.json` of a run's weights into a folder.

    Two classifiers are merged into one, exactly. S1 to S4 are saved under timm's own names.

    Returns:
        The network that was saved: on the CPU, in eval mode.

    Raises:
        UserError: for a checkpoint that is not whole.
    """
    settings = read_checkpoint(str(run.checkpoint))
    model = network_of_checkpoint(run.checkpoint, settings["model"], run.averaged)
    save_for_hf(
        model,
        str(folder),
        safe_serialization=True,
        data_config=_preprocessing(settings["data"]),
        model_config={"label_names": list(settings["model"]["class_names"]), "pretrained_cfg": {"tag": ""}},
    )
    _leave_out_classes(folder / "config.json")
    return model


def _leave_out_classes(config: Path) -> None:
    """Say the number of classes once: transformers fails where timm has repeated it among the arguments."""
    content = json.loads(config.read_text())
    content["model_args"].pop("num_classes")
    config.write_text(json.dumps(content, indent=2) + "\n")


def _preprocessing(data: dict[str, Any]) -> dict[str, Any]:
    """How the run evaluated its images, in timm's words."""
    squashed = data["resize"] == "squash"
    return {
        "input_size": (3, data["image_size"], data["image_size"]),
        "interpolation": "bicubic",
        "crop_mode": "squash" if squashed else "center",
        "crop_pct": 1.0 if squashed else data["crop_pct"],  # squashed images are not cropped
        "mean": IMAGENET_DEFAULT_MEAN,  # our data module knows no other normalisation
        "std": IMAGENET_DEFAULT_STD,
    }
