"""What a run was made from that others have published: a dataset, weights, a teacher."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from timm.models import get_pretrained_cfg, is_model, split_model_name_tag

from shvit_pl.hub.ended import EndedRun
from shvit_pl.models.network_names import is_path, repo_of

_REPO = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")


@dataclass(frozen=True)
class Teacher:
    """A teacher as the card names it.

    Attributes:
        name: As the user named it, without the machine's paths.
        what: What it was, and how good on the validation images.
        repo: Its Hub repo, where it has one.
        licence: In a clause.
    """

    name: str
    what: str
    repo: str | None
    licence: str


def hub_dataset(run: EndedRun) -> str | None:
    """The id of the Hub dataset that a run was trained on, if it was one."""
    dataset = run.summary["dataset"]
    return str(dataset["path"]) if dataset.get("commit") else None


def base_model(run: EndedRun) -> str | None:
    """The Hub repo whose weights a run began with, if it did."""
    repo: str | None = run.summary.get("init_repo")
    return repo


def teacher(run: EndedRun) -> Teacher | None:
    """The teacher of a distilled run."""
    settings: dict[str, Any] = run.config["model"].get("distill") or {}
    name = settings.get("teacher")
    if name is None:
        return None
    what = (run.summary["teacher"] or name).removeprefix(f"{name}, ")
    return Teacher(name, what, _repo(name), _licence(name, settings["weights"]))


def _licence(name: str, weights: str | None) -> str:
    """What is known of the licence of a teacher's weights."""
    if weights is not None:
        return f"its weights came from the file {Path(weights).name}, whose licence is not recorded here"
    of_timm = repo_of(name).removeprefix("timm/")
    known = get_pretrained_cfg(of_timm) if is_model(split_model_name_tag(of_timm)[0]) else None
    if known is not None and known.license:
        return f"timm states its licence as {known.license}"
    if _repo(name):
        return "its page on the Hub states its licence"
    return "it was trained with shvit-pl too"


def _repo(name: str) -> str | None:
    """The Hub repo that a teacher's name is, if it is one, without its revision."""
    if is_path(name) or Path(name).exists():
        return None
    plain = repo_of(name)
    return plain.split("@")[0] if _REPO.fullmatch(plain) else None
