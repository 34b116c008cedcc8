"""What `model.distill.teacher` names: a timm model, a checkpoint or run folder of ours, a Hub repo, or a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import timm
from timm.models import is_model, split_model_name_tag

from shvit_pl.designs.named import NAMED
from shvit_pl.errors import UserError, did_you_mean
from shvit_pl.models.hub_repos import HUB, repo_of
from shvit_pl.models.local_files import is_path, local_path
from shvit_pl.models.opened_network import OpenedNetwork
from shvit_pl.runs.folder import checkpoint_of_run, run_with_checkpoint
from shvit_pl.teachers.config import DistillConfig
from shvit_pl.teachers.sources.files import weights_file
from shvit_pl.teachers.sources.named import NamedModel
from shvit_pl.teachers.sources.ours import OwnCheckpoint
from shvit_pl.teachers.sources.saved import FolderModel, HubModel


class Source(Protocol):
    """Where a teacher comes from."""

    def identity(self) -> dict[str, str]:
        """What tells its weights from all others; does not build the network."""
        ...

    def build(self) -> OpenedNetwork:
        """The network with its weights; raises `UserError`."""
        ...


def find_source(config: DistillConfig) -> Source:
    """Tell what the user names; raises `UserError` for what is none of them.

    A name of timm is timm's model, whatever files lie about; then come files and folders, and last the Hub.
    """
    name = config.source
    if is_model(split_model_name_tag(name)[0]) and "/" not in name:
        if config.weights is not None:
            weights_file(config)
        return NamedModel(config)
    source = _hub_or_local(config)
    if config.weights is not None:
        raise UserError(
            f"model.distill.weights {config.weights!r}: it belongs to a timm model, and model.distill.teacher {name!r} "
            "comes with its weights. Give a timm name, or leave model.distill.weights out."
        )
    return source


def _hub_or_local(config: DistillConfig) -> Source:
    name = config.source
    if name.startswith(HUB):
        return HubModel(config, repo_of(name))
    if "://" in name:
        raise UserError(
            f"model.distill.teacher {name!r}: addresses are not fetched. Give a timm model and the file, once you have "
            "it, with --model.distill.weights."
        )
    path = local_path(name)
    if path.is_file():
        return _own_file(config, path)
    if path.is_dir():
        return _folder(config, path)
    if is_path(name):
        raise UserError(
            f"model.distill.teacher {name!r}: no such file or folder. Give a timm model, a checkpoint or run folder "
            "of ours, or a Hub repo."
        )
    if "/" in name:
        return HubModel(config, name)
    raise _unknown(name)


def _unknown(name: str) -> UserError:
    if name in NAMED:
        return UserError(
            f"model.distill.teacher {name!r}: a design, without weights. Train it with shvit-pl fit, and give its run "
            "folder."
        )
    hint = did_you_mean(name, [*timm.list_models(), *timm.list_pretrained()])
    return UserError(
        f"model.distill.teacher {name!r}: no model of timm{hint}, and no such file or folder. Give a timm model (such "
        "as regnety_160.deit_in1k), a checkpoint or run folder of ours, or a Hub repo."
    )


def _own_file(config: DistillConfig, path: Path) -> Source:
    if path.suffix != ".ckpt":
        raise UserError(
            f"model.distill.teacher {config.source!r}: a file of weights does not say of which network they are. "
            "Give the network's timm name, and the file with --model.distill.weights."
        )
    return OwnCheckpoint(config, path)


def _folder(config: DistillConfig, folder: Path) -> Source:
    if (folder / "config.json").is_file():
        return FolderModel(config, folder)
    checkpoint = checkpoint_of_run(folder)
    if checkpoint is not None:
        return OwnCheckpoint(config, checkpoint)
    run = run_with_checkpoint(folder)
    if run is not None:
        raise UserError(f"model.distill.teacher {config.source!r}: a folder of runs. Give one, such as {run}.")
    raise UserError(
        f"model.distill.teacher {config.source!r}: a folder without a teacher. Give a run folder, which has "
        "checkpoints/best.ckpt or last.ckpt, or a folder with config.json and weights as timm saves them."
    )
