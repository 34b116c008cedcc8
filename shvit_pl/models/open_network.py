"""A network from anywhere, to be used: a design, a checkpoint or run folder of ours, a Hub repo, or a model of timm."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import timm
from timm.models import is_model

from shvit_pl.designs.config import DesignConfig, resolve_design
from shvit_pl.designs.design import Design
from shvit_pl.designs.named import NAMED
from shvit_pl.errors import UserError, did_you_mean, one_line
from shvit_pl.models import SHViT, build_network, load_weights
from shvit_pl.models.checkpoint import read_checkpoint
from shvit_pl.models.local_files import is_path, local_file, local_path
from shvit_pl.models.opened_network import OpenedNetwork, opened_of_timm
from shvit_pl.models.pretrained import read_pretrained
from shvit_pl.models.tensors import network_tensors
from shvit_pl.models.weights import load_state
from shvit_pl.runs.folder import SUMMARY, read_summary
from shvit_pl.runs.metrics import EMA

TIMM = "timm:"  # before the name of any model of timm
_CLASSES = 1000  # of a design without weights


def open_network(
    name: str,
    averaged: bool | None = None,
    pretrained: bool = False,
    image_size: int | None = None,
    checkpoint: str | None = None,
    model_kwargs: Mapping[str, Any] | None = None,
) -> OpenedNetwork:
    """Open a network by name.

    Args:
        name: A design (`s1`), a checkpoint or run folder of ours, a Hub repo (`hf-hub:user/name`) or a folder of the
            same files, or `timm:` and a name of timm.
        averaged: Take a checkpoint's averaged weights (default: those that its run's monitored metric is of).
        pretrained: Load the weights that timm has of its model.
        image_size: Side in pixels that a model of timm is built for, where it must know that (a ViT).
        checkpoint: File of the weights of a model of timm.
        model_kwargs: What to change in a model of timm, such as `num_heads`.

    Raises:
        UserError: for anything else, and for weights that can't be had.
    """
    if name.startswith(TIMM):
        size = {} if image_size is None else {"img_size": image_size}
        return _of_timm(name, pretrained, checkpoint, {**size, **(model_kwargs or {})})
    if name in NAMED:
        design = resolve_design(name)
        return OpenedNetwork(name, _network(design, _CLASSES), "design", design.image_size, fresh=True)
    if not local_path(name).exists() and (is_path(name) or "/" not in name):
        raise _unknown(name)
    file = local_file(name)
    if file is not None and file.suffix == ".ckpt":
        return _of_checkpoint(name, file, averaged)
    return _of_repo(name, averaged)


def network_of_checkpoint(checkpoint: Path, content: dict[str, Any], averaged: bool) -> SHViT:
    """The network of a checkpoint of ours, in evaluation mode; two classifiers are merged into one, exactly.

    Args:
        checkpoint: The file.
        content: What `read_checkpoint` returns, with its weights.
        averaged: Take its averaged weights.

    Raises:
        UserError: for a checkpoint that is not whole.
    """
    settings = content["model"]
    model = _network(DesignConfig(**settings["design"]).resolve(), len(settings["class_names"]))
    report = load_state(model, network_tensors({"state_dict": content["weights"]}, averaged), checkpoint)
    if report.reinitialised:
        raise UserError(f"{str(checkpoint)!r}: not a whole checkpoint, it lacks {', '.join(report.reinitialised)}.")
    return model


def _network(design: Design, classes: int) -> SHViT:
    """Build a design as it is evaluated: with one classifier."""
    return build_network(replace(design, distilled=False, drop_path=0.0), num_classes=classes).eval()


def _of_checkpoint(name: str, file: Path, averaged: bool | None) -> OpenedNetwork:
    settings = read_checkpoint(str(file), flag="", weights=True)
    model, data = settings["model"], settings["data"]
    if averaged is None:
        averaged = _monitored_average(file)
    if averaged and not model["ema"]["decay"]:
        raise UserError(f"{name!r}: it has no averaged weights (its model.ema.decay was 0).")
    return OpenedNetwork(
        name,
        network_of_checkpoint(file, settings, averaged),
        "checkpoint",
        data["image_size"],
        crop_pct=data["crop_pct"],
        resize=data["resize"],
        class_names=list(model["class_names"]),
        averaged=averaged,
    )


def _monitored_average(checkpoint: Path) -> bool:
    """Whether the run of a checkpoint was told to watch the averaged weights."""
    folder = checkpoint.parent.parent
    return (folder / SUMMARY).is_file() and str(read_summary(folder)["monitor"]).endswith(EMA)


def _of_repo(name: str, averaged: bool | None) -> OpenedNetwork:
    if averaged:
        raise UserError(f"{name!r}: it holds one set of weights, and none beside it that is averaged.")
    pretrained = read_pretrained(name)
    if pretrained is None:
        raise UserError(
            f"{name!r}: a file of weights does not say of which network they are. Give a run folder, a checkpoint of "
            "shvit-pl fit, or a Hub repo."
        )
    model = _network(DesignConfig(**pretrained.model["design"]).resolve(), pretrained.classes)
    report = load_weights(model, name)
    if report.reinitialised:
        raise UserError(f"{name!r}: not whole, it lacks {', '.join(report.reinitialised)}.")
    data = pretrained.data
    return OpenedNetwork(
        name,
        model,
        "hub",
        data["image_size"],
        crop_pct=data["crop_pct"],
        resize=data.get("resize", "crop"),
        class_names=pretrained.model["class_names"] or pretrained.names,
    )


def _of_timm(name: str, pretrained: bool, checkpoint: str | None, changes: Mapping[str, Any]) -> OpenedNetwork:
    model_name = name.removeprefix(TIMM)
    if not is_model(model_name):
        hint = did_you_mean(model_name.split(".")[0], timm.list_models())
        raise UserError(
            f"{name!r}: timm {timm.__version__} has no model of this name{hint}; timm.list_models() has them all."
        )
    file = "" if checkpoint is None else str(Path(checkpoint).expanduser())
    try:
        model: Any = timm.create_model(model_name, pretrained=pretrained, checkpoint_path=file, **changes)
    except Exception as error:  # whatever a model of timm asks for
        raise UserError(f"{name!r}: timm can't build it ({one_line(error)[:160]}).") from error
    opened = opened_of_timm(name if checkpoint is None else f"{name} ({Path(checkpoint).name})", model.eval())
    size = int(changes.get("img_size") or opened.image_size)
    return replace(opened, image_size=size, fresh=not (pretrained or checkpoint))


def _unknown(name: str) -> UserError:
    if is_model(name):
        return UserError(f"{name!r}: a model of timm; write {TIMM}{name}.")
    return UserError(
        f"{name!r}: no design{did_you_mean(name, NAMED)}, and no such file or folder. Give a design (shvit-pl designs "
        f"has them), a run folder, a checkpoint, a Hub repo (hf-hub:user/name), or {TIMM} and a name of timm."
    )
