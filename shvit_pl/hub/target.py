"""The repository of a push: its name is checked without torch, and then whether the token may write to it."""

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from huggingface_hub import HfApi, errors, utils

from shvit_pl.hub_errors import TOKEN_PAGE, HubError, pushing

_PREFIX = re.compile(r"hf[-_]hub:|https://huggingface\.co/")


@dataclass(frozen=True)
class Target:
    """A repository of the Hub to push to."""

    repo_id: str
    """`user/name`; created if it does not exist."""
    revision: str | None = None
    """A branch other than main; created if it does not exist."""
    public: bool = False
    """Make the repository public; otherwise a new one is private, and an existing one stays as it is."""

    @property
    def name(self) -> str:
        """The repository's name without its owner."""
        return self.repo_id.split("/")[-1]

    @property
    def place(self) -> str:
        """The repository with its branch."""
        return self.repo_id + (f"@{self.revision}" if self.revision else "")

    @property
    def source(self) -> str:
        """The name by which timm and this package load it."""
        return f"hf-hub:{self.place}"


def name_mistakes(repo_id: str, flag: str) -> Iterator[str]:
    """Yield a message where a repository can't have this name."""
    name, _, revision = _PREFIX.sub("", repo_id).partition("@")
    if name != repo_id:
        yield f"{flag} {repo_id!r}: give {name}{f', and --revision {revision}' if revision else ''}."
        return
    with suppress(errors.HFValidationError):
        utils.validate_repo_id(repo_id)
        if "/" in repo_id:
            return
    yield f"{flag} {repo_id!r}: not a repository name; use user/name, of letters, digits, '-', '_' and '.'."


def branch_mistakes(revision: str | None) -> Iterator[str]:
    """Yield a message where a branch can't have this name, by git's rules."""
    name = "main" if revision is None else revision
    odd = name == "HEAD" or name.startswith("refs/") or name.endswith((".", "/", ".lock")) or ".." in name
    if odd or not re.fullmatch(r"\w[\w./-]*", name):
        yield f"--revision {revision!r}: not a branch name; use one such as v2."


def check_access(repo_id: str) -> str:
    """Return the account whose token is in use, after checking that it may write to a repository of this name.

    Raises `HubError` without a token, with one that is not accepted or may not write there, or without a connection.
    """
    with pushing(repo_id):
        account = HfApi().whoami()
    check_token(account, repo_id)
    return str(account["name"])


def check_token(account: Mapping[str, Any], repo_id: str) -> None:
    """Raise `HubError` if a token may not write to `user/name`, which may not exist yet; `account` is from `whoami`."""
    user, (owner, repo) = account["name"], repo_id.split("/")
    token = (account.get("auth") or {}).get("accessToken") or {}
    scopes = (token.get("fineGrained") or {}).get("scoped") or []
    may_write = any("repo.write" in scope.get("permissions", ()) for scope in scopes)
    if token.get("role") == "read" or (token.get("role") == "fineGrained" and not may_write):
        raise HubError(
            f"the token of {user!r} can only read. Create one that can write at {TOKEN_PAGE}, and set it by hf auth "
            "login or HF_TOKEN."
        )
    roles = {org["name"]: org.get("roleInOrg") for org in account.get("orgs") or ()} | {user: "admin"}
    if roles.get(owner, "read") == "read":
        raise HubError(
            f"repository {repo_id!r}: the token belongs to {user!r}, which can't write to repositories of {owner!r}. "
            f"Use {user}/{repo}, or log in to an account that can: hf auth login."
        )
