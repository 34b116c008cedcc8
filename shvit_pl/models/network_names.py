"""Names of networks and of weights: what they mean, and what tells the weights apart.

A name is that of a design (`s1`), a run folder, a checkpoint (`.ckpt`), a file of weights (`.safetensors`, `.pth`), a
folder as timm saves it (also after `local-dir:`), a Hub repo (`user/name`, `hf-hub:user/name@revision`), or a model of
timm (`timm:resnet18`, with a tag for certain weights: `timm:resnet18.a1_in1k`).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import timm
from huggingface_hub import HfApi, try_to_load_from_cache
from timm.models import get_pretrained_cfg, is_model, split_model_name_tag

from shvit_pl.designs.named import NAMED
from shvit_pl.errors import UserError, did_you_mean
from shvit_pl.hub_errors import hub_reachable
from shvit_pl.runs.folder import checkpoint_of_run, run_with_checkpoint

HUB = ("hf-hub:", "hf_hub:")  # timm's prefixes of a repo
FOLDER = "local-dir:"  # timm's prefix of a folder
TIMM = "timm:"  # our prefix of a model of timm
_SUFFIXES = (".safetensors", ".pth", ".pt", ".ckpt", ".bin")
_WEIGHTS_OF_TIMM = ("model.safetensors", "*.safetensors", "*.bin", "*.pth", "*.pth.tar")

Kind = Literal["design", "checkpoint", "folder", "hub", "timm"]


@dataclass(frozen=True)
class NetworkName:
    """A name of a network, and what it means."""

    name: str
    """The name as the user gave it."""
    kind: Kind
    """What it is the name of; `folder` is one as timm saves it."""
    place: str
    """The design's name, the checkpoint or the folder, `user/name` of a repo, or timm's own name."""

    def identity(self, weights: Path | None = None) -> dict[str, str]:
        """Return what tells the network's weights from all others, without building it.

        Where files lie does not matter: a local file counts by its SHA-256, a Hub repo by its commit, where that can be
        told, and a model of timm by its name, tag and origin.

        Args:
            weights: A file of weights for a model of timm.

        Raises:
            UserError: for a model of timm without pretrained weights.
        """
        if self.kind == "checkpoint":
            return {"checkpoint": _file_hash(Path(self.place))}
        if self.kind == "folder":
            folder = Path(self.place)
            return {"folder": _file_hash(folder / "config.json", *_weights_of_timm(folder))}
        if self.kind == "hub":
            commit = commit_of(self.place)
            return {"repo": self.place, **({"commit": commit} if commit else {})}
        if self.kind == "design":
            return {"design": self.place}
        model = split_model_name_tag(self.place)[0]
        if weights is not None:
            return {"timm": model, "weights": _file_hash(weights)}
        cfg = self.pretrained_settings()
        origin = {"tag": cfg.get("tag"), "hf_hub_id": cfg.get("hf_hub_id"), "url": cfg.get("url")}
        return {"timm": model, **{key: str(value) for key, value in origin.items() if value}}

    def settings(self) -> dict[str, Any]:
        """Return timm's settings for its own model; raises `UserError` for a tag that it doesn't have."""
        try:
            cfg = get_pretrained_cfg(self.place)
        except RuntimeError as error:
            model = split_model_name_tag(self.place)[0]
            known = timm.list_pretrained(f"{model}.*")
            hint = did_you_mean(self.place, known)
            raise UserError(
                f"{self.name!r}: timm has no such weights of {model}{hint}; there are {', '.join(known) or 'none'}."
            ) from error
        return cfg.to_dict() if cfg else {}

    def pretrained_settings(self) -> dict[str, Any]:
        """Return timm's settings for its own model; raises `UserError` where timm has no weights of it."""
        cfg = self.settings()
        if any(cfg.get(key) for key in ("hf_hub_id", "url", "file")):
            return cfg
        hint = did_you_mean(split_model_name_tag(self.place)[0], timm.list_models(pretrained=True))
        raise UserError(
            f"{self.name!r}: timm has no pretrained weights of it. Give a file of weights, or a model that has some, "
            f"such as regnety_160.deit_in1k{hint}."
        )


def find_network(name: str) -> NetworkName:
    """Find what a name means; files and folders come before Hub repos.

    Raises:
        UserError: for a name of nothing, for what isn't there, and for a file of weights alone.
    """
    if name.startswith(TIMM):
        return NetworkName(name, "timm", _model_of_timm(name))
    if name in NAMED:
        return NetworkName(name, "design", name)
    if "://" in name:
        raise UserError(f"{name!r}: addresses are not fetched. Download it, and give the file or folder.")
    if not name.startswith(HUB) and "/" not in name and not is_path(name) and not local_path(name).exists():
        raise _unknown(name)
    file = local_file(name)
    if file is None:
        return NetworkName(name, "hub", repo_of(name))
    if file.suffix == ".ckpt":
        return NetworkName(name, "checkpoint", str(file))
    if (file.parent / "config.json").is_file():
        return NetworkName(name, "folder", str(file.parent))
    raise UserError(
        f"{name!r}: a file of weights alone doesn't name its network. Give a run folder, a checkpoint of shvit-pl fit, "
        "or a Hub repo."
    )


def _model_of_timm(name: str) -> str:
    model = name.removeprefix(TIMM)
    if not is_model(split_model_name_tag(model)[0]):
        hint = did_you_mean(model.split(".")[0], timm.list_models())
        raise UserError(
            f"{name!r}: timm {timm.__version__} has no model of this name{hint}; timm.list_models() has them all."
        )
    return model


def is_model_of_timm(name: str) -> bool:
    """Return whether a name is that of a model of timm, with or without a tag, but without a prefix."""
    return "/" not in name and is_model(split_model_name_tag(name)[0])


def _unknown(name: str) -> UserError:
    if is_model_of_timm(name):
        return UserError(f"{name!r}: a model of timm; write {TIMM}{name}.")
    hint = did_you_mean(name, NAMED) or did_you_mean(name, [*timm.list_models(), *timm.list_pretrained()])
    return UserError(
        f"{name!r}: no design, no model of timm{hint}, and no such file or folder. Give a design (shvit-pl designs "
        f"has them), a run folder, a checkpoint, a Hub repo (hf-hub:user/name), or {TIMM} and a name of timm."
    )


def repo_of(source: str) -> str:
    """Return `user/name`, or `user/name@revision`, of a source with or without timm's prefix."""
    for prefix in HUB:
        source = source.removeprefix(prefix)
    return source


def split_revision(repo: str) -> tuple[str, str | None]:
    """Split `user/name@revision` into repo and revision; None where it has none."""
    name, _, revision = repo.partition("@")
    return name, revision or None


def commit_of(repo: str) -> str | None:
    """Return the commit that `user/name` or `user/name@revision` stands for, from the Hub or the local cache."""
    name, revision = split_revision(repo)
    if hub_reachable():
        try:
            return HfApi().model_info(name, revision=revision).sha
        except Exception:  # loading it will say why
            return None
    cached = try_to_load_from_cache(name, "config.json", revision=revision)
    return Path(cached).parent.name if isinstance(cached, str) else None


def local_file(source: str | Path) -> Path | None:
    """Return the file of weights that `source` names, or that lies in the folder it names; None for a Hub repo.

    Raises:
        UserError: for a file that isn't there, and for a folder without weights.
    """
    name = str(source)
    if name.startswith(HUB):
        return None
    path = local_path(name)
    if path.is_file():
        return path
    if path.is_dir() and name:
        return _file_in(path, name)
    if name and not is_path(name):
        return None
    raise UserError(f"{name!r}: no such file or folder. Give a file, a run folder or the name of a Hub repo.")


def local_path(name: str) -> Path:
    """Return the path that a name stands for, whether there is anything or not."""
    return Path(name.removeprefix(FOLDER)).expanduser()


def is_path(name: str) -> bool:
    """Return whether a name can only be that of a file or folder, and not a Hub repo's."""
    return Path(name).suffix in _SUFFIXES or name.startswith((".", "/", "~", FOLDER)) or name.count("/") > 1


def _file_in(folder: Path, name: str) -> Path:
    saved = _weights_of_timm(folder) if (folder / "config.json").is_file() else [folder / "model.safetensors"]
    found = next((file for file in saved if file.is_file()), None) or checkpoint_of_run(folder)
    if found is not None:
        return found
    if run := run_with_checkpoint(folder):
        raise UserError(f"{name!r}: a folder of runs. Give one, such as {run}.")
    raise UserError(
        f"{name!r}: a folder without weights. Give a run folder, which has checkpoints/best.ckpt, or one with "
        "config.json and model.safetensors, a file, or the name of a Hub repo."
    )


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
