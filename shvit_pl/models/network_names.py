"""Names of networks and of weights: their meaning, and an identity of the weights.

A name is that of a design (`s1`), a model of timm (`timm:resnet18` or `resnet18`, with a tag for certain weights:
`timm:resnet18.a1_in1k`), a run folder, a checkpoint (`.ckpt`), a file of weights (`.safetensors`, `.pth`), a folder as
timm saves it (also after `local-dir:`), or a Hub repo (`user/name`, `hf-hub:user/name@revision`): the first of these
that it can be. Every flag that takes a network or weights reads names by `find_network` or `find_weights`.
"""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import timm
from huggingface_hub import HfApi, try_to_load_from_cache

from shvit_pl.designs.design import NAMED, TIMM_NAMES
from shvit_pl.errors import UserError, did_you_mean
from shvit_pl.hub_errors import hub_reachable
from shvit_pl.runs.folder import checkpoint_of_run, run_near

HUB = ("hf-hub:", "hf_hub:")  # timm's prefixes of a repo
FOLDER = "local-dir:"  # timm's prefix of a folder
TIMM = "timm:"  # our prefix of a model of timm
DETECTORS = "shvit_pl."  # begins the architecture of a detector in a config.json of ours
_SUFFIXES = (".safetensors", ".pth", ".pt", ".ckpt", ".bin")
_WEIGHTS_OF_TIMM = ("model.safetensors", "*.safetensors", "*.bin", "*.pth", "*.pth.tar")
_SAVED = "a run folder, a checkpoint, a Hub repo (hf-hub:user/name)"
TEACHERS = f"{_SAVED} or a model of timm (regnety_160.deit_in1k)"
_NETWORKS = f"{_SAVED}, a model of timm (timm:NAME) or a design (shvit-pl designs lists them)"
_WEIGHTS = f"{_SAVED}, a file of weights or timm:shvit_s1.in1k"

Kind = Literal["design", "timm", "checkpoint", "folder", "file", "hub"]


@dataclass(frozen=True)
class NetworkName:
    """A name of a network, and its meaning."""

    name: str
    """The name as the user gave it, but a model of timm always with its prefix."""
    kind: Kind
    """Kind of what it names; a `folder` is one as timm saves it, a `file` holds weights alone."""
    place: str
    """The design's name, timm's own name, the checkpoint, folder or file, or `user/name` of a repo."""
    file: Path | None = None
    """The local file of its weights."""

    @property
    def repo(self) -> str | None:
        """`user/name` of a Hub repo, without its revision; None for others."""
        return self.place.partition("@")[0] if self.kind == "hub" else None

    def identity(self, weights: Path | None = None) -> dict[str, str]:
        """Return what distinguishes the network's weights from all others, without building it.

        A local file is identified by its SHA-256, a Hub repo by its commit, where known, and a model of timm by the
        file of its `weights`, else by tag and origin; raises `UserError` if timm has no weights of it.
        """
        if self.kind == "checkpoint":
            return {"checkpoint": _file_hash(Path(self.place))}
        if self.kind == "folder":
            folder = Path(self.place)
            return {"folder": _file_hash(folder / "config.json", *_weights_of_timm(folder))}
        if self.kind == "hub":
            commit = commit_of(self.place)
            return {"repo": self.place, **({"commit": commit} if commit else {})}
        model = timm.models.split_model_name_tag(self.place)[0]
        if weights is not None:
            return {"timm": model, "weights": _file_hash(weights)}
        cfg = self.pretrained_settings()
        origin = {"tag": cfg.get("tag"), "hf_hub_id": cfg.get("hf_hub_id"), "url": cfg.get("url")}
        return {"timm": model, **{key: str(value) for key, value in origin.items() if value}}

    def settings(self) -> dict[str, Any]:
        """Return timm's settings for its own model; raises `UserError` for a tag that it doesn't have."""
        try:
            cfg = timm.models.get_pretrained_cfg(self.place)
        except RuntimeError as error:
            model = timm.models.split_model_name_tag(self.place)[0]
            known = ", ".join(timm.list_pretrained(f"{model}.*")) or "none"
            raise UserError(f"{self.name!r}: timm has no such weights of {model}; there are {known}.") from error
        return cfg.to_dict() if cfg else {}

    def pretrained_settings(self) -> dict[str, Any]:
        """Return timm's settings for its own model; raises `UserError` where timm has no weights of it."""
        cfg = self.settings()
        if not any(cfg.get(key) for key in ("hf_hub_id", "url", "file")):
            hint = did_you_mean(timm.models.split_model_name_tag(self.place)[0], timm.list_models(pretrained=True))
            raise UserError(
                f"{self.name!r}: timm has no pretrained weights of it. Give another model, such as "
                f"regnety_160.deit_in1k{hint}, or a file of weights."
            )
        return cfg


def find_network(name: str, allowed: str = _NETWORKS) -> NetworkName:
    """Find the meaning of a name; `allowed` says in messages what a flag takes, such as `TEACHERS`: no designs.

    Raises `UserError` for an unknown name, for a file or folder that isn't there, and for a file of weights alone.
    """
    source = _find(name, allowed)
    if source.kind == "file":
        raise UserError(f"{name!r}: a file of weights alone doesn't name its network. Give {allowed}.")
    return source


def find_weights(name: str) -> NetworkName:
    """Find the meaning of a name of a SHViT's weights, which may be a file alone; those of timm are its Hub repo's.

    Raises `UserError` as `find_network` does, and for what can't be a SHViT's weights.
    """
    source = _find(name, _WEIGHTS)
    if source.kind != "timm":
        return source
    model = timm.models.split_model_name_tag(source.place)[0]
    if model not in TIMM_NAMES.values():
        raise not_a_shvit(source.name, model)
    return replace(source, kind="hub", place=str(source.pretrained_settings()["hf_hub_id"]))


def not_a_shvit(name: str, architecture: str) -> UserError:
    """Return the refusal of another network's weights."""
    return UserError(f"{name!r}: weights of a {architecture}, not of a SHViT. Give {_WEIGHTS}.")


def _find(name: str, allowed: str) -> NetworkName:
    model = name.removeprefix(TIMM)
    if is_model_of_timm(name):
        return NetworkName(f"{TIMM}{model}", "timm", model)
    if name.startswith(TIMM):
        hint = did_you_mean(model.split(".")[0], timm.list_models())
        raise UserError(
            f"{name!r}: timm {timm.__version__} has no model of this name{hint}; timm.list_models() has them all."
        )
    if name in NAMED and allowed == _NETWORKS:
        return NetworkName(name, "design", name)
    if name in NAMED:
        raise UserError(f"{name!r}: a design has no weights; train it with shvit-pl fit. Give {allowed}.")
    if "://" in name:
        raise UserError(f"{name!r}: URLs are not downloaded. Download it, and give the file or folder.")
    if not name.startswith(HUB) and "/" not in name and not is_path(name) and not local_path(name).exists():
        hint = did_you_mean(name, NAMED) or did_you_mean(name, [*timm.list_models(), *timm.list_pretrained()])
        raise UserError(f"{name!r}: no design, model of timm, file or folder of this name{hint}. Give {allowed}.")
    file = _local_file(name, allowed)
    if file is None:
        return NetworkName(name, "hub", repo_of(name))
    if file.suffix == ".ckpt":
        return NetworkName(name, "checkpoint", str(file), file)
    if (file.parent / "config.json").is_file():
        return NetworkName(name, "folder", str(file.parent), file)
    return NetworkName(name, "file", str(file), file)


def is_model_of_timm(name: str) -> bool:
    """Return whether a name is that of a model of timm, with or without prefix and tag."""
    model = timm.models.split_model_name_tag(name.removeprefix(TIMM))[0]
    return "/" not in model and timm.models.is_model(model)


def repo_of(source: str) -> str:
    """Return `user/name`, or `user/name@revision`, of a source with or without timm's prefix."""
    for prefix in HUB:
        source = source.removeprefix(prefix)
    return source


def commit_of(repo: str) -> str | None:
    """Return the commit of `user/name` or `user/name@revision`, from the Hub or the local cache; None if unknown."""
    name, _, revision = repo.partition("@")
    if hub_reachable():
        try:
            return HfApi().model_info(name, revision=revision or None).sha
        except Exception:  # loading it explains why
            return None
    cached = try_to_load_from_cache(name, "config.json", revision=revision or None)
    return Path(cached).parent.name if isinstance(cached, str) else None


def _local_file(name: str, allowed: str) -> Path | None:
    """Return the file of weights of this name, or in the folder of this name; None for a Hub repo."""
    if name.startswith(HUB):
        return None
    path = local_path(name)
    if path.is_file():
        return path
    if not (path.is_dir() and name):
        if name and not is_path(name):
            return None
        raise UserError(f"{name!r}: no such file or folder. Give {allowed}.")
    saved = _weights_of_timm(path) if (path / "config.json").is_file() else [path / "model.safetensors"]
    file = next((file for file in saved if file.is_file()), None) or checkpoint_of_run(path)
    if file is None and (run := run_near(path)):
        raise UserError(f"{name!r}: {instead_of_folder(path, run)}")
    if file is None:
        raise UserError(
            f"{name!r}: a folder without weights (checkpoints/best.ckpt, or config.json and model.safetensors). Give "
            f"{allowed}."
        )
    return file


def instead_of_folder(folder: Path, run: Path) -> str:
    """Return what a folder is that holds `run`, or is in it, and to give that."""
    if run == folder.parent:
        return f"a folder in a run. Give the run, {run}."
    return f"a folder of runs. Give one, such as {run}."


def local_path(name: str) -> Path:
    """Return the path that a name stands for, which may not exist."""
    return Path(name.removeprefix(FOLDER)).expanduser()


def is_path(name: str) -> bool:
    """Return whether a name can only be that of a file or folder, and not a Hub repo's."""
    repo = name.partition("@")[0]  # a branch may have slashes
    return Path(name).suffix in _SUFFIXES or name.startswith((".", "/", "~", FOLDER)) or repo.count("/") > 1


def _weights_of_timm(folder: Path) -> list[Path]:
    """Return the files of weights in a folder as timm saves it, first the one that timm prefers."""
    return list(dict.fromkeys(path for pattern in _WEIGHTS_OF_TIMM for path in sorted(folder.glob(pattern))))


def _file_hash(*files: Path) -> str:
    """Return the SHA-256 of the names and contents of files; of the content alone for a single one."""
    if len(files) == 1:
        with files[0].open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    each = [f"{file.name} {_file_hash(file)}\n" for file in sorted(files)]
    return hashlib.sha256("".join(each).encode()).hexdigest()
