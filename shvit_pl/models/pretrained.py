"""What a Hub repo, or a folder of the same files, says beside its weights: the design, the classes, the data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from json import JSONDecodeError
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError
from timm.models._hub import hf_split, load_model_config_from_hf, load_model_config_from_path

from shvit_pl.designs.config import DesignConfig
from shvit_pl.designs.design import Design
from shvit_pl.designs.fingerprint import design_of
from shvit_pl.designs.named import NAMED, TIMM_NAMES
from shvit_pl.errors import UserError, one_line
from shvit_pl.hub_errors import use_cache_if_unreachable, why_no_model
from shvit_pl.models.hub_repos import repo_of
from shvit_pl.models.labels import class_names
from shvit_pl.models.local_files import local_file
from shvit_pl.models.shvit import ENTRY_POINT
from shvit_pl.runs.folder import CONFIG

NAMELESS = (KeyError, TypeError, AttributeError, JSONDecodeError)  # of a config.json that names no network


@dataclass(frozen=True)
class Pretrained:
    """Settings that come with weights.

    Attributes:
        model: Of `model`: the design, and the names of the classes where they are known.
        classes: How many there are.
        data: Of `data`: all of the run that `shvit-pl push` has pushed, else image size and crop.
        names: What the classes are called at least: ImageNet's descriptions where the repo has no names.
    """

    model: dict[str, Any]
    classes: int
    data: dict[str, Any]
    names: list[str] | None


def read_pretrained(source: str) -> Pretrained | None:
    """Read what a repo or a folder says of its weights; None for a single file, which says nothing.

    Args:
        source: As `load_weights` takes it.

    Raises:
        UserError: when it can't be had, or is not of a SHViT.
    """
    file = local_file(source)
    if file is not None and not (file.parent / "config.json").is_file():
        return None
    cfg, architecture, arguments = _config(source, file)
    try:
        design = asdict(DesignConfig.from_design(_design(architecture, arguments)))
        own = [str(name) for name in cfg.get("label_names") or ()] or None
        classes = int(cfg["num_classes"])
        _, descriptions = class_names(cfg, classes)
        data = {"crop_pct": cfg["crop_pct"], **_data_of_run(source, file), "image_size": int(cfg["input_size"][-1])}
    except (KeyError, TypeError, ValueError) as error:
        raise _foreign(source, one_line(error)) from error
    return Pretrained({"design": design, "class_names": own}, classes, data, own or descriptions)


def read_config(place: str | Path) -> tuple[dict[str, Any], str, dict[str, Any]]:
    """What a repo or a folder says of a network: its settings, its name at timm, and its arguments there.

    Raises what the Hub's client or the reader run into, one of `NAMELESS` where no network is named.
    """
    if isinstance(place, Path):
        return load_model_config_from_path(place)
    use_cache_if_unreachable()
    return load_model_config_from_hf(place)


def _config(source: str, file: Path | None) -> tuple[dict[str, Any], str, dict[str, Any]]:
    """The settings of the weights, the network's name at timm, and its arguments."""
    try:
        return read_config(repo_of(source) if file is None else file.parent)
    except NAMELESS as error:
        raise _foreign(source, "it does not say which network it is") from error
    except Exception as error:  # of the Hub's client
        raise UserError(f"weights {source!r}: {why_no_model(error, repo_of(source))}") from error


def _design(architecture: str, arguments: Mapping[str, Any]) -> Design:
    named = {timm_name: NAMED[name] for name, timm_name in TIMM_NAMES.items()}
    if architecture in named:
        return named[architecture]
    if architecture != ENTRY_POINT:
        raise ValueError(f"it is a {architecture}, and what is needed is a SHViT")
    return design_of({"design": arguments})  # timm adds arguments of its own


def _data_of_run(source: str, file: Path | None) -> dict[str, Any]:
    """The data settings of the run that made the weights, where it is told."""
    try:
        if file is None:
            name, revision = hf_split(repo_of(source))
            path = Path(hf_hub_download(name, CONFIG, revision=revision))
        else:
            path = file.parent / CONFIG
        return dict(yaml.safe_load(path.read_text())["data"])
    except (EntryNotFoundError, OSError):
        return {}


def _foreign(source: str, reason: str) -> UserError:
    return UserError(
        f"weights {source!r}: not a SHViT as timm or shvit-pl push saves it (config.json: {reason[:120]}). Give "
        "another repo or folder, or a file of weights with the design that they are of."
    )
