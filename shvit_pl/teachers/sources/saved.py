"""Models that timm has saved with their settings: in a Hub repo, or in a folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
from timm.models import is_model

from shvit_pl.errors import UserError, one_line
from shvit_pl.models.local_files import FOLDER
from shvit_pl.models.opened import OpenedNetwork
from shvit_pl.models.pretrained import NAMELESS, read_config
from shvit_pl.models.repos import commit_of, why_not
from shvit_pl.teachers.config import DistillConfig
from shvit_pl.teachers.sources.files import file_hash
from shvit_pl.teachers.sources.timm_models import check_classifier, create, refuse_average

_WEIGHTS = ("*.safetensors", "*.bin", "*.pth", "*.pth.tar")


@dataclass(frozen=True)
class HubModel:
    """A model that timm has saved to a Hub repo, `user/name` or `user/name@revision`."""

    config: DistillConfig
    repo: str

    def identity(self) -> dict[str, str]:
        """The repo, and its commit where it can be told."""
        commit = commit_of(self.repo)
        return {"repo": self.repo, **({"commit": commit} if commit else {})}

    def build(self) -> OpenedNetwork:
        """The network with its weights; raises `UserError` when the repo can't be had or holds no timm model."""
        refuse_average(self.config)
        try:
            cfg, name, _ = read_config(self.repo)
        except Exception as error:
            raise _no_config(self.config, error, why_not(error, self.repo)) from error
        _check_architecture(self.config, name, cfg)
        return create(self.config, f"hf-hub:{self.repo}", self.repo)


@dataclass(frozen=True)
class FolderModel:
    """A model that timm has saved to a folder: `config.json` and weights."""

    config: DistillConfig
    folder: Path

    def identity(self) -> dict[str, str]:
        """SHA-256 of the folder's settings and weights."""
        return {"folder": file_hash(self.folder / "config.json", *self._weights())}

    def build(self) -> OpenedNetwork:
        """The network with its weights; raises `UserError` when the folder holds no whole timm model."""
        refuse_average(self.config)
        try:
            cfg, name, _ = read_config(self.folder)
        except Exception as error:
            raise _no_config(self.config, error, f"its config.json can't be read ({one_line(error)[:120]}).") from error
        _check_architecture(self.config, name, cfg)
        if not self._weights():
            raise UserError(
                f"model.distill.teacher {self.config.teacher!r}: the folder has config.json and no weights. Put "
                "model.safetensors beside it, or give another teacher."
            )
        return create(self.config, f"{FOLDER}{self.folder}")

    def _weights(self) -> list[Path]:
        return [path for pattern in _WEIGHTS for path in self.folder.glob(pattern)]


def _check_architecture(config: DistillConfig, name: str, cfg: Mapping[str, Any]) -> None:
    if not is_model(name):
        raise UserError(
            f"model.distill.teacher {config.source!r}: its network {name!r} is not known to timm {timm.__version__}. "
            "Give another teacher, or install the version that it was made with."
        )
    check_classifier(config, cfg)


def _no_config(config: DistillConfig, error: Exception, reason: str) -> UserError:
    if isinstance(error, NAMELESS):
        reason = "no model of timm: its config.json does not say which network of timm it is. Give another teacher."
    return UserError(f"model.distill.teacher {config.source!r}: {reason}")
