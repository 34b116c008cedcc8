"""Where weights come from: a Hub repo, safetensors, an official `.pth` or a checkpoint of ours."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from timm.models import load_state_dict_from_hf
from timm.models.shvit import NormLinear
from torch import Tensor

from shvit_pl.errors import UserError
from shvit_pl.hub_errors import use_cache_if_unreachable, why_no_model
from shvit_pl.models.hub_repos import repo_of
from shvit_pl.models.local_files import local_file
from shvit_pl.models.shvit import SHViT, merged_classifier
from shvit_pl.models.tensors import read_tensors

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
    return load_state(model, read_state_dict(source, averaged), source)


def load_state(model: SHViT, state: dict[str, Tensor], source: str | Path) -> LoadReport:
    """Load the tensors of `source` into `model`, as `load_weights` does."""
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
        state = read_tensors(path, averaged)
    except Exception as error:
        raise _unreadable(source, "damaged, cut short, or of objects that are not tensors") from error
    if averaged and not state:
        raise UserError(f"weights {str(source)!r}: it holds no averaged weights; leave out model.use_ema.")
    if not state:
        raise _unreadable(source, "it holds no tensors")
    return _timm_keys(state)


def _unreadable(source: str | Path, problem: str) -> UserError:
    return UserError(
        f"weights {str(source)!r}: not a readable file of weights ({problem}). Give a whole .safetensors, .pth or "
        ".ckpt file, or the name of a Hub repo."
    )


def _from_hub(source: str, averaged: bool) -> dict[str, Tensor]:
    if averaged:
        raise UserError(f"weights {source!r}: a Hub repo holds one set of weights; leave out model.use_ema.")
    repo = repo_of(source)
    use_cache_if_unreachable()
    try:
        return _timm_keys(load_state_dict_from_hf(repo, weights_only=True))
    except Exception as error:
        raise UserError(f"weights {source!r}: {why_no_model(error, repo)}") from error


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
