"""Models that timm has saved with their settings: in a Hub repo, or in a folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import timm
from timm.models import is_model

from shvit_pl.errors import UserError, one_line
from shvit_pl.hub_errors import why_no_model
from shvit_pl.models.hub_repos import commit_of
from shvit_pl.models.local_files import FOLDER
from shvit_pl.models.opened_network import OpenedNetwork
from shvit_pl.models.pretrained import NAMELESS, read_config
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
        _check(self.config, self.repo)
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
        _check(self.config, self.folder)
        if not self._weights():
            raise UserError(
                f"model.distill.teacher {self.config.teacher!r}: the folder has config.json and no weights. Put "
                "model.safetensors beside it, or give another teacher."
            )
        return create(self.config, f"{FOLDER}{self.folder}")

    def _weights(self) -> list[Path]:
        return [path for pattern in _WEIGHTS for path in self.folder.glob(pattern)]


def _check(config: DistillConfig, place: str | Path) -> None:
    """Refuse what can't be a teacher before any weights are fetched."""
    refuse_average(config)
    try:
        cfg, name, _ = read_config(place)
    except Exception as error:
        raise UserError(f"model.distill.teacher {config.source!r}: {_why_no_config(error, place)}") from error
    if not is_model(name):
        raise UserError(
            f"model.distill.teacher {config.source!r}: its network {name!r} is not known to timm {timm.__version__}. "
            "Give another teacher, or install the version that it was made with."
        )
    check_classifier(config, cfg)


def _why_no_config(error: Exception, place: str | Path) -> str:
    if isinstance(error, NAMELESS):
        return "no model of timm: its config.json does not say which network of timm it is. Give another teacher."
    if isinstance(place, Path):
        return f"its config.json can't be read ({one_line(error)[:120]})."
    return why_no_model(error, place)
