"""Checks before a push: names of the repository and the branch, and the token's permissions."""

import re
from collections.abc import Mapping
from typing import Any

from huggingface_hub import HfApi, constants, errors, utils

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
        utils.validate_repo_id(repo_id)
    except errors.HFValidationError as error:
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
        account = HfApi().whoami()
    check_token(account, repo_id)
    return str(account["name"])


def check_token(account: Mapping[str, Any], repo_id: str) -> None:
    """Raise `HubError` if a token may not write to a repository of this name, which need not exist yet.

    Args:
        account: The Hub's answer to `whoami`.
        repo_id: `user/name`.
    """
    user, (owner, repo) = account["name"], repo_id.split("/")
    token = (account.get("auth") or {}).get("accessToken") or {}
    scopes = (token.get("fineGrained") or {}).get("scoped") or []
    may_write = any("repo.write" in scope.get("permissions", ()) for scope in scopes)
    if token.get("role") == "read" or (token.get("role") == "fineGrained" and not may_write):
        raise HubError(
            f"the token of {user!r} can only read. Create one that can write at {token_page()}, and set it by hf auth "
            "login or HF_TOKEN."
        )
    roles = {org["name"]: org.get("roleInOrg") for org in account.get("orgs") or ()} | {user: "admin"}
    if roles.get(owner, "read") == "read":
        raise HubError(
            f"repository {repo_id!r}: the token belongs to {user!r}, which can't write to repositories of {owner!r}. "
            f"Use {user}/{repo}, or log in to an account that can: hf auth login."
        )
