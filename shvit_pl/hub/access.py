"""Checks before a push: names of the repository and the branch, and the token's permissions."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from huggingface_hub import HfApi, constants
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from shvit_pl.errors import UserError, one_line
from shvit_pl.hub_errors import OFFLINE, HubError, hub_errors, hub_reachable, token_page
from shvit_pl.models.network_names import repo_of


def check_repo_id(repo_id: str, flag: str) -> None:
    """Raise `UserError` for an invalid name of a repository."""
    name, _, revision = repo_of(repo_id).removeprefix("https://huggingface.co/").partition("@")
    if name != repo_id:
        branch = f", and --revision {revision}" if revision else ""
        raise UserError(f"{flag} {repo_id!r}: give {name}{branch}.")
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise UserError(f"{flag} {repo_id!r}: not a repository name ({one_line(error)[:160]}).") from error
    if "/" not in repo_id:
        raise UserError(f"{flag} {repo_id!r}: missing owner; use user/name.")


def check_branch(revision: str | None) -> None:
    """Raise `UserError` for an invalid name of a branch, by git's rules."""
    name = revision or "main"
    odd = name == "HEAD" or name.startswith("refs/") or name.endswith((".", "/", ".lock")) or ".." in name
    if odd or not re.fullmatch(r"\w[\w./-]*", name):
        raise UserError(f"--revision {revision!r}: not a branch name; use one such as v2.")


def check_access(repo_id: str) -> str:
    """Return the account whose token is in use, after checking that it may write to a repository of this name.

    Raises:
        HubError: without a token, with one that is not accepted or may not write there, or without a connection.
    """
    if constants.HF_HUB_OFFLINE:
        raise HubError(OFFLINE)
    if not hub_reachable():
        raise HubError(f"the Hub ({constants.ENDPOINT}) can't be reached from here.")
    with hub_errors(repo_id):
        who = HfApi().whoami()
    check_token(who, repo_id)
    return str(who["name"])


def check_token(who: Mapping[str, Any], repo_id: str) -> None:
    """Raise `HubError` if a token may not write to a repository of this name.

    `HfApi.auth_check` can't answer that for a repository that does not exist yet.

    Args:
        who: The Hub's answer to `whoami`.
        repo_id: `user/name`.
    """
    token = (who.get("auth") or {}).get("accessToken") or {}
    owner, role = repo_id.split("/")[0], token.get("role")
    scopes = (token.get("fineGrained") or {}).get("scoped") or []
    permitted = {permission for scope in scopes for permission in scope.get("permissions", ())}
    if role == "read" or (role == "fineGrained" and "repo.write" not in permitted):
        raise HubError(
            f"the token of {who['name']!r} can only read. Create one that can write at {token_page()}, and set it by "
            "hf auth login or HF_TOKEN."
        )
    roles = {org["name"]: org.get("roleInOrg") for org in who.get("orgs") or ()} | {who["name"]: "admin"}
    if roles.get(owner, "read") == "read":
        raise HubError(
            f"repository {repo_id!r}: the token belongs to {who['name']!r}, which can't write to repositories of "
            f"{owner!r}. Use {who['name']}/{repo_id.split('/')[1]}, or log in to an account that can: hf auth login."
        )
