"""Where weights come from: a Hub repo, safetensors, an official `.pth` or a checkpoint of ours."""

from __future__ import annotations

import argparse
import re
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from timm.models import load_state_dict_from_hf
from timm.models.shvit import NormLinear
from torch import Tensor

from shvit_pl.errors import UserError
from shvit_pl.hub_errors import use_cache_if_unreachable, why_no_model
from shvit_pl.models.network_names import local_file, repo_of
from shvit_pl.models.shvit import SHViT, merged_classifier

_HEADS = ("head", "head_dist")

# prefixes of a network in a Lightning module, with our average of it before the network itself
_AVERAGE, _NETWORK = "ema.module.", "model."
_AVERAGES = ("state_dict_ema", "model_ema")  # in training checkpoints of timm and of the official code
_WRAPPERS = re.compile(r"^(?:module\.|_orig_mod\.)+")  # of DDP, of torch.compile

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
    """What `load_weights` did.

    Attributes:
        source: Where the weights came from.
        loaded: Number of tensors loaded.
        reinitialised: Classifiers left at their fresh initialisation, each with the reason.
        unexpected: Keys of the source that the model has no place for (classifiers only).
    """

    source: str
    loaded: int
    reinitialised: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()

    def __str__(self) -> str:
        parts = [f"{self.loaded} tensors from {self.source}"]
        parts += [f"re-initialised {reason}" for reason in self.reinitialised]
        parts += [f"left out {', '.join(self.unexpected)}"] if self.unexpected else []
        return "; ".join(parts)


def load_weights(model: SHViT, source: str | Path, averaged: bool = False) -> LoadReport:
    """Load weights into `model`: the whole backbone, and every classifier that fits.

    Args:
        model: A model of the design that the weights were trained with.
        source: A Hub repo (`timm/shvit_s1.in1k`, `hf-hub:user/name@revision`), a folder of the same files, a
            `.safetensors`, an official `.pth`, a checkpoint of ours (`.ckpt`), or a run folder, whose best checkpoint
            is taken. A distilled source's two classifiers are merged for a model with one.
        averaged: Take the moving average of the weights that a checkpoint of ours or an official one holds beside them.

    Returns:
        What was loaded, and which classifiers were re-initialised because the source has other classes or none.

    Raises:
        UserError: (a `ValueError`) when the source can't be read, or any tensor of the backbone is missing, unexpected
            or of another shape. The model is then unchanged.
    """
    return load_state(model, _read_state_dict(str(source), averaged), source)


def load_state(model: SHViT, state: dict[str, Tensor], source: str | Path) -> LoadReport:
    """Load the tensors of `source` into `model`, as `load_weights` does.

    Args:
        model: A model of the design that the weights were trained with.
        state: The tensors under timm's keys.
        source: What the user calls the weights.
    """
    own = model.state_dict()
    _check_backbone(own, state, source)
    if model.head_dist is None and "head_dist.l.weight" in state:
        state = _with_merged_heads(state)
    fitting, reinitialised = dict(_backbone(state)), []
    for head in _HEADS:
        keys = [key for key in own if key.startswith(f"{head}.")]
        problem = _why_not(own, state, keys)
        if keys and problem:
            reinitialised.append(f"{head} ({problem})")
        fitting.update({key: state[key] for key in keys if not problem})
    model.load_state_dict({**own, **fitting})
    unexpected = tuple(key for key in state if key not in own)
    return LoadReport(str(source), len(fitting), tuple(reinitialised), unexpected)


class NoAverageError(UserError):
    """A moving average of the weights that was asked for where there is none."""


def _read_state_dict(source: str, averaged: bool) -> dict[str, Tensor]:
    """Read the tensors of `source` under timm's keys."""
    path = local_file(source)
    state = _from_hub(source, averaged) if path is None else read_tensors(source, path, averaged)
    return {_timm_key(key): value for key, value in state.items()}


def read_tensors(name: str, path: Path, averaged: bool | None = False) -> dict[str, Tensor]:
    """Read a network's tensors from whatever they are nested in, without running code from the file.

    Args:
        name: What the user calls the file.
        path: Safetensors, a bare state dict, or a training checkpoint of timm, of the official code or of Lightning.
        averaged: Read the moving average that a checkpoint holds beside the network; None: where it holds one.

    Raises:
        UserError: for a file that can't be read or holds no tensors, and a `NoAverageError` where it has no average.
    """
    try:
        content = load_file(path) if path.suffix == ".safetensors" else _load_pickled(path)
    except Exception as error:  # whatever the readers run into in a file that is something else, or cut short
        raise _unreadable(name, "damaged, cut short, or of objects that are not tensors") from error
    return tensors_in(name, content if isinstance(content, Mapping) else {}, averaged)


def tensors_in(name: str, content: Mapping[str, Any], averaged: bool | None = False) -> dict[str, Tensor]:
    """Return a network's tensors from the content of a file; arguments and errors as of `read_tensors`."""
    average = {} if averaged is False else _tensors(_average_in(content))
    if averaged and not average:
        raise NoAverageError(f"{name!r}: it holds no averaged weights.")
    if tensors := average or _tensors(_network_in(content)):
        return tensors
    raise _unreadable(name, "it holds no tensors")


def _load_pickled(path: Path) -> Any:
    with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings():  # theirs: the arguments
        warnings.simplefilter("ignore")  # of other protocols than torch's own
        return torch.load(path, map_location="cpu", weights_only=True)


def _average_in(content: Mapping[str, Any]) -> Mapping[str, Any]:
    average = next((content[key] for key in _AVERAGES if isinstance(content.get(key), Mapping)), None)
    state = content.get("state_dict")
    return average or (_below(state, _AVERAGE) if isinstance(state, Mapping) else {})


def _network_in(content: Mapping[str, Any]) -> Mapping[str, Any]:
    state = content.get("state_dict", content.get("model", content))
    state = _unwrapped(state) if isinstance(state, Mapping) else {}
    return _below(state, _NETWORK) or state


def _tensors(state: Mapping[str, Any]) -> dict[str, Tensor]:
    return {key: value for key, value in _unwrapped(state).items() if isinstance(value, Tensor)}


def _below(state: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    return {str(key).removeprefix(prefix): value for key, value in state.items() if str(key).startswith(prefix)}


def _unwrapped(state: Mapping[str, Any]) -> dict[str, Any]:
    return {_WRAPPERS.sub("", str(key)): value for key, value in state.items()}


def _unreadable(name: str, problem: str) -> UserError:
    return UserError(
        f"{name!r}: not a readable file of weights ({problem}). Give a whole .safetensors, .pth or .ckpt file, or the "
        "name of a Hub repo."
    )


def _from_hub(source: str, averaged: bool) -> dict[str, Tensor]:
    if averaged:
        raise NoAverageError(f"{source!r}: a Hub repo holds one set of weights, none of them averaged.")
    repo = repo_of(source)
    use_cache_if_unreachable()
    try:
        state: dict[str, Tensor] = load_state_dict_from_hf(repo, weights_only=True)
    except Exception as error:
        raise UserError(f"{source!r}: {why_no_model(error, repo)}") from error
    return state


def _timm_key(key: str) -> str:
    for pattern, replacement in _OFFICIAL_KEYS:
        renamed, count = re.subn(pattern, replacement, key)
        if count:
            return renamed
    return key


def _backbone(state: Mapping[str, Tensor]) -> Iterable[tuple[str, Tensor]]:
    return ((key, value) for key, value in state.items() if key.split(".")[0] not in _HEADS)


def _why_not(own: Mapping[str, Tensor], state: Mapping[str, Tensor], keys: Iterable[str]) -> str:
    """Why these tensors can't be taken over, or an empty string."""
    for key in keys:
        if key not in state:
            return f"the source has no {key}"
        if own[key].shape != state[key].shape:
            return f"{len(state[key])} classes in the source, {len(own[key])} here"
    return ""


def _check_backbone(own: Mapping[str, Tensor], state: Mapping[str, Tensor], source: str | Path) -> None:
    ours, theirs = dict(_backbone(own)), dict(_backbone(state))
    missing = sorted(ours.keys() - theirs.keys())
    unexpected = sorted(theirs.keys() - ours.keys())
    shapes = sorted(key for key in ours.keys() & theirs.keys() if ours[key].shape != theirs[key].shape)
    problems = [
        f"{len(keys)} {kind} (such as {keys[0]})"
        for kind, keys in (("missing", missing), ("unexpected", unexpected), ("of another shape", shapes))
        if keys
    ]
    if problems:
        raise UserError(
            f"{str(source)!r}: these weights are of another design, tensors of the backbone are "
            f"{', '.join(problems)}. Nothing was loaded; set model.design to the design that they were trained with."
        )


def _with_merged_heads(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Replace the two classifiers of `state` by the one that gives their mean."""
    classes, features = state["head.l.weight"].shape
    pair = []
    for name in _HEADS:
        head = NormLinear(features, classes)
        head.load_state_dict({key: state[f"{name}.{key}"] for key in head.state_dict()})
        pair.append(head)
    merged = merged_classifier(*pair).float().state_dict()
    return {**dict(_backbone(state)), **{f"head.{key}": value for key, value in merged.items()}}
