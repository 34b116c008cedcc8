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
from shvit_pl.hub_status import hub_reachable
from shvit_pl.models.heads import merged_classifier
from shvit_pl.models.repos import HUB, repo_of, why_not
from shvit_pl.models.shvit import SHViT
from shvit_pl.runs.folder import checkpoint_of_run

FOLDER = "local-dir:"  # timm's prefix of a folder
_WRAPPERS = re.compile(r"^(?:model\.|module\.|_orig_mod\.)+")  # of a LightningModule, of DDP, of torch.compile
_AVERAGE = "ema.module."  # where our checkpoints keep the moving average
_SUFFIXES = (".safetensors", ".pth", ".pt", ".ckpt", ".bin")
_HEADS = ("head", "head_dist")

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
    state = read_state_dict(source, averaged)
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


def read_state_dict(source: str | Path, averaged: bool = False) -> dict[str, Tensor]:
    """Read the tensors of `source` under timm's keys; files are read without running code from them."""
    path = local_file(source)
    if path is None:
        return _from_hub(str(source), averaged)
    try:
        content = load_file(path) if path.suffix == ".safetensors" else _load_pickled(path)
    except Exception as error:
        raise _unreadable(source, "damaged, cut short, or of objects that are not tensors") from error
    state = _tensors(content, averaged) if isinstance(content, Mapping) else {}
    if averaged and not state:
        raise UserError(f"weights {str(source)!r}: it holds no averaged weights; leave out model.use_ema.")
    if not state:
        raise _unreadable(source, "it holds no tensors")
    return _timm_keys(state)


def local_file(source: str | Path) -> Path | None:
    """The file that `source` names, or that lies in the folder it names; None for a Hub repo.

    Raises:
        UserError: for a file that isn't there, and for a folder without weights.
    """
    name = str(source)
    if name.startswith(HUB):
        return None
    path = Path(name.removeprefix(FOLDER)).expanduser()
    if path.is_file():
        return path
    if path.is_dir() and name:
        return _file_in(path, name)
    if name and not is_path(name):
        return None
    raise UserError(f"weights {name!r}: no such file. Give a file, a run folder or the name of a Hub repo.")


def is_path(name: str) -> bool:
    """Whether a name can only be that of a file or folder, and not a Hub repo's."""
    return Path(name).suffix in _SUFFIXES or name.startswith((".", "/", "~", FOLDER)) or name.count("/") > 1


def _file_in(folder: Path, name: str) -> Path:
    saved = folder / "model.safetensors"
    found = saved if saved.is_file() else checkpoint_of_run(folder)
    if found is None:
        raise UserError(
            f"weights {name!r}: a folder without weights. Give a run folder, which has checkpoints/best.ckpt, or one "
            "with config.json and model.safetensors, a file, or the name of a Hub repo."
        )
    return found


def _unreadable(source: str | Path, problem: str) -> UserError:
    return UserError(
        f"weights {str(source)!r}: not a readable file of weights ({problem}). Give a whole .safetensors, .pth or "
        ".ckpt file, or the name of a Hub repo."
    )


def _load_pickled(path: Path) -> Mapping[str, Any]:
    with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings():  # official: its arguments
        warnings.simplefilter("ignore")  # of other protocols than torch's own
        content: Mapping[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return content


def _from_hub(source: str, averaged: bool) -> dict[str, Tensor]:
    if averaged:
        raise UserError(f"weights {source!r}: a Hub repo holds one set of weights; leave out model.use_ema.")
    repo = repo_of(source)
    hub_reachable()  # if not, its client is now told to look in the cache alone
    try:
        return _timm_keys(load_state_dict_from_hf(repo, weights_only=True))
    except Exception as error:
        raise UserError(f"weights {source!r}: {why_not(error, repo)}") from error


def _tensors(content: Mapping[str, Any], averaged: bool) -> dict[str, Tensor]:
    """The model's tensors in a bare state dict, an official file (`model`) or a Lightning checkpoint."""
    if averaged and "state_dict" not in content:
        state = content.get("model_ema", {})
    else:
        state = content.get("state_dict", content.get("model", content))
        state = {
            str(key).removeprefix(_AVERAGE): value
            for key, value in (state.items() if isinstance(state, Mapping) else ())
            if str(key).startswith(_AVERAGE) == averaged
        }
    return {_WRAPPERS.sub("", key): value for key, value in state.items() if isinstance(value, Tensor)}


def _timm_keys(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {_timm_key(key): value for key, value in state.items()}


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
            f"weights {str(source)!r}: these weights are of another design, tensors of the backbone are "
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
