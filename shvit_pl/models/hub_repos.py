"""Repos of models on the Hugging Face Hub: their names and commits."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import HfApi, try_to_load_from_cache
from timm.models._hub import hf_split

from shvit_pl.hub_errors import hub_reachable

HUB = ("hf-hub:", "hf_hub:")  # timm's prefixes of a repo


def repo_of(source: str) -> str:
    """`user/name`, or `user/name@revision`, of a source with or without timm's prefix."""
    for prefix in HUB:
        source = source.removeprefix(prefix)
    return source


def commit_of(repo: str) -> str | None:
    """The commit that `user/name` or `user/name@revision` stands for, from the Hub or the local cache."""
    name, revision = hf_split(repo)
    if hub_reachable():
        try:
            return HfApi().model_info(name, revision=revision).sha
        except Exception:  # loading it will say why
            return None
    cached = try_to_load_from_cache(name, "config.json", revision=revision)
    return Path(cached).parent.name if isinstance(cached, str) else None
