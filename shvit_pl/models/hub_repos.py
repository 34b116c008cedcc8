"""Repos of models on the Hugging Face Hub: their commits, and why one can't be had."""

from __future__ import annotations

from pathlib import Path
from textwrap import shorten

from huggingface_hub import HfApi, constants, try_to_load_from_cache
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from timm.models._hub import hf_split

from shvit_pl.errors import one_line
from shvit_pl.hub_status import hub_reachable, token_page, why_later

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


def why_not(error: BaseException, repo: str) -> str:
    """Why the Hub's client does not give a repo, and what to do about it."""
    name, revision = hf_split(repo)
    page = f"{constants.ENDPOINT}/{name}"
    if isinstance(error, GatedRepoError):
        return (
            f"a gated repo. Ask for access at {page}, and set HF_TOKEN to a token of the account that has it "
            f"({token_page()})."
        )
    if isinstance(error, RepositoryNotFoundError | HFValidationError):
        return (
            "no such folder or file here, and no such repo of a model on the Hub. Give a file, a run folder or a Hub "
            "repo; a private one needs HF_TOKEN."
        )
    if isinstance(error, RevisionNotFoundError):
        return f"the repo has no branch, tag or commit {revision!r}; they are listed at {page}."
    if not hub_reachable():
        return (
            "no such folder or file here, it is not in the local cache, and the Hub cannot be reached. Run it once "
            "where the Hub can be reached, or give a file or a run folder."
        )
    if isinstance(error, LocalEntryNotFoundError) and error.__cause__ is not None:
        error = error.__cause__  # the client found nothing in its cache, after this
    if isinstance(error, HfHubHTTPError) and error.response.status_code in (401, 403):
        return (
            f"the Hub does not let this token read it ({error.response.status_code}). Set HF_TOKEN to one that may "
            f"({token_page()})."
        )
    if later := why_later(error):
        return later
    if isinstance(error, EntryNotFoundError):
        return f"no model of timm: {page} lacks config.json or the weights. Give another repo."
    return f"it can't be fetched from the Hub ({shorten(one_line(error), 160, placeholder=' ...')})."
