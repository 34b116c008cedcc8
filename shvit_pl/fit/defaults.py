"""What a checkpoint, or weights alone, say of model and data: the defaults of validate, test and predict."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from lightning.pytorch.cli import LightningArgumentParser

from shvit_pl.command_line.flat_settings import flat
from shvit_pl.errors import naming
from shvit_pl.models.pretrained import read_pretrained
from shvit_pl.teachers.config import DistillConfig


def settings_of_weights(source: str, command: str) -> dict[str, Any] | None:
    """What comes with weights alone, by `model` and `data`; None for one bare file."""
    with naming("model.init_from: "):
        pretrained = read_pretrained(source)
    if pretrained is None:
        return None
    names = pretrained.names if command == "predict" else pretrained.model["class_names"]
    return {"model": {**pretrained.model, "class_names": names}, "data": pretrained.data}


def set_defaults(parser: LightningArgumentParser, settings: Mapping[str, Any], of_checkpoint: bool) -> None:
    """Take settings as a command's defaults, but for those that only a training has.

    Args:
        parser: The command's.
        settings: By `model` and `data`; what the command has no flag for is left out.
        of_checkpoint: Whether they came with the very weights that are measured.
    """
    known = {action.dest for action in parser._actions}
    parser.set_defaults({key: value for key, value in flat(settings) if key in known})
    of_training: dict[str, Any] = {"model.use_ema": False, "model.distill": asdict(DistillConfig())}
    if of_checkpoint:
        of_training["model.init_from"] = None
    parser.set_defaults(dict(flat(of_training)))
