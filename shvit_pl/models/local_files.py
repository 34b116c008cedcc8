"""Weights on this machine: which file a name means."""

from __future__ import annotations

from pathlib import Path

from shvit_pl.errors import UserError
from shvit_pl.models.hub_repos import HUB
from shvit_pl.runs.folder import checkpoint_of_run

FOLDER = "local-dir:"  # timm's prefix of a folder
_SUFFIXES = (".safetensors", ".pth", ".pt", ".ckpt", ".bin")


def local_file(source: str | Path) -> Path | None:
    """The file that `source` names, or that lies in the folder it names; None for a Hub repo.

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
    raise UserError(f"weights {name!r}: no such file. Give a file, a run folder or the name of a Hub repo.")


def local_path(name: str) -> Path:
    """The path that a name stands for, whether there is anything or not."""
    return Path(name.removeprefix(FOLDER)).expanduser()


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
