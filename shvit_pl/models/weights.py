"""Weights from a Hub repo, safetensors, an official `.pth` or a shvit-pl checkpoint, whose settings are read too."""

import argparse
import re
import shlex
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models import load_model_config_from_hf, load_state_dict_from_hf
from timm.models._manipulate import adapt_input_conv
from timm.models.shvit import NormLinear
from torch import Tensor

from shvit_pl.compat import load_timm_config
from shvit_pl.designs.config import DesignConfig
from shvit_pl.errors import UserError, one_line
from shvit_pl.hub_errors import go_offline_if_unreachable, why_no_model
from shvit_pl.models import network_names, shvit
from shvit_pl.runs.folder import run_near

_USUAL = {"mean": IMAGENET_DEFAULT_MEAN, "std": IMAGENET_DEFAULT_STD}
_HEADS = ("head", "head_dist")

_AVERAGE, _NETWORK = "ema.module.", "model."  # prefixes of the average and of the network itself in our checkpoints
_AVERAGES = ("state_dict_ema", "model_ema")  # names in training checkpoints of timm and of the official code
_WRAPPERS = re.compile(r"^(?:module\.|_orig_mod\.)+")  # DDP and torch.compile add these

# official key -> timm key, first match wins; `blocks2` and `blocks3` begin with the three parts of the downsampling
_OFFICIAL_KEYS = (
    (r"^blocks1\.(\d+)\.", lambda m: f"stages.0.blocks.{m[1]}."),
    (r"^blocks([23])\.0\.([01])\.", lambda m: f"stages.{int(m[1]) - 1}.downsample.{m[2]}."),
    (r"^blocks([23])\.1\.", lambda m: f"stages.{int(m[1]) - 1}.downsample.2."),
    (r"^blocks([23])\.2\.([01])\.", lambda m: f"stages.{int(m[1]) - 1}.downsample.{int(m[2]) + 3}."),
    (r"^blocks([23])\.(\d+)\.", lambda m: f"stages.{int(m[1]) - 1}.blocks.{int(m[2]) - 3}."),
)


@dataclass(frozen=True)
class LoadReport:
    """The result of `load_weights`."""

    source: str
    """Name of the weights."""
    loaded: int
    """Number of tensors loaded."""
    reinitialized: tuple[str, ...] = ()
    """Classifiers left at their fresh initialization, each with the reason."""
    unexpected: tuple[str, ...] = ()
    """Keys of the source that the model has no place for (classifiers only)."""
    adapted: str = ""
    """What was done to the stem for other channels."""

    def __str__(self) -> str:
        parts = [f"{self.loaded} tensors from {self.source}"]
        parts += [self.adapted] if self.adapted else []
        parts += [f"re-initialized {reason}" for reason in self.reinitialized]
        parts += [f"left out {', '.join(self.unexpected)}"] if self.unexpected else []
        return "; ".join(parts)


def load_weights(model: shvit.SHViT, source: str | Path, averaged: bool = False) -> LoadReport:
    """Load weights into `model`: the whole backbone, and every classifier that fits.

    Args:
        model: A model of the design that the weights were trained with.
        source: A name as `network_names` explains it, or a path: of a Hub repo (`hf-hub:user/name@revision`), timm's
            weights (`timm:shvit_s1.in1k`), a folder of the same files, a `.safetensors`, an official `.pth`, a
            shvit-pl checkpoint (`.ckpt`), or a run folder, whose best checkpoint is taken. A distilled source's two
            classifiers are merged for a model with one.
        averaged: Take the moving average of the weights that a shvit-pl checkpoint or an official one holds with them.

    The model's `pretrained_cfg` takes the weights' input size, crop, mean, std and, with the classifier, class names.

    Returns:
        What was loaded, and which classifiers were re-initialized because the source has other classes or none.

    Raises:
        UserError: (a `ValueError`) when the source can't be read, or any tensor of the backbone is missing, unexpected
            or of another shape. The model is then unchanged.
    """
    found, state = read_weights(str(source), averaged)
    report = load_state(model, {timm_key(key): value for key, value in state.items()}, source)
    if hasattr(model, "pretrained_cfg"):  # not when built without timm
        settings = _settings_of(found)
        kept = {key: settings[key] for key in settings if key[:5] != "label"}
        if kept and len(kept.get("mean", ())) != model.in_chans:
            kept = {key: kept[key] for key in kept if key not in ("mean", "std", "input_size")}
        if not report.reinitialized:
            shvit.set_classes(model, settings)
        model.pretrained_cfg = {**model.pretrained_cfg, **kept}
    return report


def read_weights(name: str, averaged: bool = False) -> tuple[network_names.NetworkName, dict[str, Tensor]]:
    """Return what a name of weights means, and their tensors; arguments and errors as of `load_weights`."""
    found = network_names.find_weights(name)
    if found.file is not None:
        return found, read_tensors(name, found.file, averaged)
    if averaged:
        raise NoAverageError(f"{name!r}: a Hub repo has no averaged weights.")
    go_offline_if_unreachable()
    try:
        return found, load_state_dict_from_hf(found.place, weights_only=True)
    except Exception as error:
        raise UserError(f"{name!r}: {why_no_model(error, found.place)}") from error


_SETTINGS = ("input_size", "crop_pct", "crop_mode", "interpolation", "mean", "std", "label_names", "label_descriptions")


def _settings_of(found: network_names.NetworkName) -> dict[str, Any]:
    """Return how the weights' images are prepared and what their classes are called, by timm's names."""
    if found.kind == "checkpoint":
        try:
            content = read_checkpoint(found.place, flag="")
        except UserError:  # another program's
            return {}
        return settings_for_timm(content["data"], content["model"]["class_names"])
    if found.kind not in ("folder", "hub"):
        return {}
    read = load_timm_config(Path(found.place)) if found.kind == "folder" else load_model_config_from_hf(found.place)
    cfg = read[0] or {}
    kept = {key: cfg[key] for key in _SETTINGS if cfg.get(key) is not None}
    return {key: tuple(value) if key in ("input_size", "mean", "std") else value for key, value in kept.items()}


def settings_for_timm(data: Mapping[str, Any], class_names: Sequence[str] | None) -> dict[str, Any]:
    """Return timm's settings for images as a run evaluates them."""
    is_squashed, side = data["resize"] == "squash", data["image_size"]
    mean, std = (data.get(name) or usual for name, usual in _USUAL.items())
    return {
        "input_size": (len(mean), side, side),
        "interpolation": "bicubic",
        "crop_mode": "squash" if is_squashed else "center",
        "crop_pct": 1.0 if is_squashed else data["crop_pct"],  # squashed images are not cropped
        "mean": tuple(mean),
        "std": tuple(std),
        "label_names": class_names,
    }


def timm_key(key: str) -> str:
    """Return timm's name of a tensor of the official network; others stay."""
    for pattern, replacement in _OFFICIAL_KEYS:
        renamed, count = re.subn(pattern, replacement, key)
        if count:
            return renamed
    return key


# ---- from tensors into a model


def load_state(model: shvit.SHViT, state: dict[str, Tensor], source: str | Path) -> LoadReport:
    """Load tensors under timm's keys into `model`, as `load_weights` does; `source` is their name for messages."""
    own = model.state_dict()
    state, adapted = _adapted_stem(own, state, source)
    fitting = _fitting_backbone(own, state, source)
    if model.head_dist is None and "head_dist.l.weight" in state:
        state = _with_merged_heads(state)
    reinitialized = []
    for head in _HEADS:
        keys = [key for key in own if key.startswith(f"{head}.")]
        misfit = next((key for key in keys if key not in state or own[key].shape != state[key].shape), None)
        if misfit is None:
            fitting |= {key: state[key] for key in keys}
        elif misfit not in state:
            reinitialized.append(f"{head} (the source has no {misfit})")
        else:
            reinitialized.append(f"{head} ({len(state[misfit])} classes in the source, {len(own[misfit])} here)")
    model.load_state_dict({**own, **fitting})
    unexpected = tuple(key for key in state if key not in own)
    return LoadReport(str(source), len(fitting), tuple(reinitialized), unexpected, adapted)


def _adapted_stem(
    own: Mapping[str, Tensor], state: dict[str, Tensor], source: str | Path
) -> tuple[dict[str, Tensor], str]:
    """Fit the first convolution of RGB weights to other channels by timm; returns what was done in words.

    Raises `UserError` for weights of other channels than RGB and the network's.
    """
    key = next((key for key in own if key.endswith(".weight") and own[key].ndim == 4), "")
    if key not in state or own[key].shape[2:] != state[key].shape[2:] or own[key].shape[0] != state[key].shape[0]:
        return state, ""  # another design, which is told of as such
    channels, theirs = own[key].shape[1], state[key].shape[1]
    if channels == theirs:
        return state, ""
    if theirs != 3:
        fitting = {1: "gray"}.get(theirs, theirs)
        raise UserError(
            f"{str(source)!r}: these weights are for {theirs} channel{'s' * (theirs != 1)}, and the network has "
            f"{channels}; only those of rgb are fitted to others. Give --data.channels {fitting}, or other weights."
        )
    adapted = adapt_input_conv(channels, state[key]).contiguous()
    how = "summed to gray" if channels == 1 else f"repeated and scaled to {channels} channels"
    return {**state, key: adapted}, f"the stem's RGB weights {how}"


def _fitting_backbone(own: Mapping[str, Tensor], state: Mapping[str, Tensor], source: str | Path) -> dict[str, Tensor]:
    """Return the tensors of the backbone; raises `UserError` unless they are exactly those of the model."""
    if any(key.startswith("backbone.net.") for key in state):
        raise UserError(
            f"{str(source)!r}: a detector's weights. Give its backbone alone, as shvit-pl push --backbone writes it."
        )
    theirs = _backbone(state)
    if problems := misfits(_backbone(own), theirs):
        raise UserError(
            f"{str(source)!r}: these weights are of another design (tensors of the backbone: {problems}). Nothing was "
            "loaded; set model.design to theirs."
        )
    return theirs


def misfits(own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> str:
    """Return in words how tensors differ from a model's own by name and shape; empty where they fit."""
    kinds = {
        "missing": own.keys() - state.keys(),
        "unexpected": state.keys() - own.keys(),
        "of another shape": {key for key in own.keys() & state.keys() if own[key].shape != state[key].shape},
    }
    return ", ".join(f"{len(keys)} {kind} (such as {min(keys)})" for kind, keys in kinds.items() if keys)


def _backbone(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key: value for key, value in state.items() if key.split(".")[0] not in _HEADS}


def _with_merged_heads(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Replace the two classifiers of `state` by the one that gives their mean."""
    classes, features = state["head.l.weight"].shape
    pair = []
    for name in _HEADS:
        head = NormLinear(features, classes)
        head.load_state_dict({key: state[f"{name}.{key}"] for key in head.state_dict()})
        pair.append(head)
    merged = shvit.merged_classifier(*pair).float().state_dict()
    return {**_backbone(state), **{f"head.{key}": value for key, value in merged.items()}}


# ---- from a file to tensors


class NoAverageError(UserError):
    """A moving average of the weights that was asked for where there is none."""


def read_tensors(name: str, path: Path, averaged: bool | None = False) -> dict[str, Tensor]:
    """Read a network's tensors from whatever they are nested in, without running code from the file.

    Args:
        name: The file as the user named it.
        path: Safetensors, a bare state dict, or a training checkpoint of timm, of the official code or of Lightning.
        averaged: Read the moving average that a checkpoint holds with the network; None: where it holds one.

    Raises:
        UserError: for a file that can't be read or holds no tensors, and a `NoAverageError` where it has no average.
    """
    try:
        if path.suffix == ".safetensors":
            content: Any = load_file(path)
        else:  # the official code's files hold its arguments
            with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch warns of pickle protocols that are not its own
                content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever the readers run into in a file that is something else, or cut short
        raise _unreadable(name, "damaged, truncated, or not only tensors") from error
    return tensors_in(name, content if isinstance(content, Mapping) else {}, averaged)


def tensors_in(name: str, content: Mapping[str, Any], averaged: bool | None = False) -> dict[str, Tensor]:
    """Return a network's tensors from the content of a file; arguments and errors as of `read_tensors`."""
    state = _tensors(content.get("state_dict", content.get("model", content)))
    if averaged is not False:
        average = next((content[key] for key in _AVERAGES if isinstance(content.get(key), Mapping)), None)
        if tensors := _tensors(average) or _tensors(state, _AVERAGE):
            return tensors
        if averaged:
            raise NoAverageError(f"{name!r}: contains no averaged weights.")
    if tensors := _tensors(state, _NETWORK) or state:
        return tensors
    raise _unreadable(name, "contains no tensors")


def _tensors(state: Any, prefix: str = "") -> dict[str, Tensor]:
    """Return the tensors whose keys begin with a prefix, without it and without what wrappers put before keys."""
    items = state.items() if isinstance(state, Mapping) else ()
    return {
        _WRAPPERS.sub("", str(key).removeprefix(prefix)): value
        for key, value in items
        if isinstance(value, Tensor) and str(key).startswith(prefix)
    }


def _unreadable(name: str, problem: str) -> UserError:
    return UserError(
        f"{name!r}: not a readable file of weights ({problem}). Give a complete .safetensors, .pth or .ckpt file, or "
        "the name of a Hub repo."
    )


LAST_RUN = "last"  # instead of a file, for fit: the last checkpoint of the newest run
_CONTENTS = {
    "model": "hyper_parameters",
    "data": "datamodule_hyper_parameters",
    "step": "global_step",
    "loops": "loops",
    "callbacks": "callbacks",
}
_OF_TRAINING = ("state_dict", "optimizer_states", "lr_schedulers")  # needed too; Lightning reads them


def read_checkpoint(path: str, flag: str = "ckpt_path ", weights: bool = False) -> dict[str, Any]:
    """Return a checkpoint's `model`, `data`, `step`, `loops` and `callbacks`; raises `UserError` for any other file.

    `few_steps` are its notes on too few steps, `task` names the kind of its training, and a detector's `category_ids`
    and `best_scores` come too. The `flag` that names the file is for messages; with `weights`, its `state_dict` comes
    too, mapped to the file.
    """
    if not Path(path).is_file():
        raise UserError(f"{flag}{path!r}: {_why_no_file(path)}")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # whatever torch runs into in a file that is something else, or cut short
        raise _no_checkpoint(flag, path, "it can't be read") from error
    checkpoint = checkpoint if isinstance(checkpoint, dict) else {}
    for key in (*_CONTENTS.values(), *_OF_TRAINING):
        if key not in checkpoint:
            raise _no_checkpoint(flag, path, f"it has no {key}")
    contents = {name: checkpoint[key] for name, key in _CONTENTS.items()}
    contents["few_steps"] = checkpoint.get("few_steps", [])
    contents["task"] = checkpoint.get("task", "classification")
    contents |= {name: checkpoint.get(name, {}) for name in ("category_ids", "best_scores")}
    try:
        DesignConfig(**contents["model"]["design"])
        contents["model"]["class_names"], contents["data"]["path"]
    except (LookupError, TypeError) as error:
        raise _no_checkpoint(flag, path, f"wrong settings: {one_line(error)}") from error
    return {**contents, "weights": checkpoint["state_dict"]} if weights else contents


def _why_no_file(path: str) -> str:
    if path.startswith(network_names.HUB):
        return f"a Hub repo has no training state, only weights. Load them with --model.init_from {shlex.quote(path)}."
    if path == LAST_RUN:
        return "only shvit-pl fit takes last. Give the file, such as RUN_FOLDER/checkpoints/last.ckpt."
    is_folder = path != "" and Path(path).is_dir()
    run = run_near(Path(path)) if path else None
    if is_folder and run is not None:
        return network_names.instead_of_folder(Path(path), run)
    around = [] if is_folder else [each for each in (Path(path).parent, Path("runs")) if each != Path()]
    run = run or next(filter(None, map(run_near, around)), None) or Path("runs/tiny/version_0")
    problem = "a folder without checkpoints" if is_folder else "no such file or folder"
    return (
        f"{problem}. Give a run's folder, such as {run}, or its checkpoints/best.ckpt or last.ckpt, or weights only: "
        "--model.init_from."
    )


def _no_checkpoint(flag: str, path: str, reason: str) -> UserError:
    weights = "; weights only: --model.init_from" if flag else ""
    return UserError(
        f"{flag}{path!r}: not a complete checkpoint of this shvit-pl ({reason}). Give a run's checkpoints/best.ckpt "
        f"or last.ckpt{weights}."
    )
