"""Who may write where on the Hub, and what its errors mean to a user."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from huggingface_hub import HfApi, constants, get_session
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    HTTPError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
)
from huggingface_hub.utils import validate_repo_id

from shvit_pl.errors import UserError, one_line
from shvit_pl.hub_status import hub_reachable, why_later
from shvit_pl.models.repos import repo_of

_PATIENCE_S = 60.0  # that the Hub may be silent; its client would wait for ever


class HubError(UserError):
    """What the Hub refuses, or fails to do: it may take the same push at another time."""


def check_repo_id(repo_id: str, flag: str) -> None:
    """Raise `UserError` for what can't be the name of a repository."""
    name, _, revision = repo_of(repo_id).removeprefix("https://huggingface.co/").partition("@")
    if name != repo_id:
        branch = f", and --revision {revision}" if revision else ""
        raise UserError(f"{flag} {repo_id!r}: give {name}{branch}.")
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise UserError(f"{flag} {repo_id!r}: no name of a repository ({one_line(error)[:160]}).") from error
    if "/" not in repo_id:
        raise UserError(f"{flag} {repo_id!r}: whose? Give user/name.")


def check_branch(revision: str | None) -> None:
    """Raise `UserError` for what can't be the name of a branch, by git's rules."""
    name = revision or "main"
    odd = name == "HEAD" or name.startswith("refs/") or name.endswith((".", "/", ".lock")) or ".." in name
    if odd or not re.fullmatch(r"\w[\w./-]*", name):
        raise UserError(f"--revision {revision!r}: no name of a branch; give one such as v2.")


def check_access(repo_id: str) -> str:
    """The account whose token is in use, once it is known that it may write to a repository of this name.

    Raises:
        HubError: without a token, with one that is not accepted or may not write there, or without a connection.
    """
    if constants.HF_HUB_OFFLINE:
        raise HubError("HF_HUB_OFFLINE is set, so nothing can be pushed. Unset it.")
    if not hub_reachable():
        raise HubError(f"the Hub ({constants.ENDPOINT}) can't be reached from here.")
    with hub_errors(repo_id):
        who = HfApi().whoami()
    check_token(who, repo_id)
    return str(who["name"])


def check_token(who: Mapping[str, Any], repo_id: str) -> None:
    """Raise `HubError` when a token, by what the Hub says of it, may not write to a repository of this name."""
    token = (who.get("auth") or {}).get("accessToken") or {}
    owner, role = repo_id.split("/")[0], token.get("role")
    scopes = (token.get("fineGrained") or {}).get("scoped") or []
    permitted = {permission for scope in scopes for permission in scope.get("permissions", ())}
    if role == "read" or (role == "fineGrained" and "repo.write" not in permitted):
        raise HubError(
            f"the token of {who['name']!r} may only read. Make one that may write at {_settings()}, and give it by "
            "hf auth login or HF_TOKEN."
        )
    roles = {org["name"]: org.get("roleInOrg") for org in who.get("orgs") or ()} | {who["name"]: "admin"}
    if roles.get(owner, "read") == "read":
        raise HubError(
            f"repository {repo_id!r}: the token is of {who['name']!r}, which may not write to the repositories of "
            f"{owner!r}. Give {who['name']}/{repo_id.split('/')[1]}, or log in as somebody who may: hf auth login."
        )


@contextmanager
def hub_errors(repo_id: str) -> Iterator[None]:
    """Speak to the Hub with a limit to its silence; whatever it answers or fails to becomes one `HubError`."""
    get_session().timeout = patience()
    try:
        yield
    except LocalTokenNotFoundError as error:
        raise HubError(
            f"there is no token for the Hub. Make one that may write at {_settings()}, then: hf auth login (or set "
            "HF_TOKEN)."
        ) from error
    except HfHubHTTPError as error:
        raise HubError(_refusal(error, repo_id)) from error
    except OfflineModeIsEnabled as error:
        raise HubError("HF_HUB_OFFLINE is set, so nothing can be pushed. Unset it.") from error
    except HTTPError as error:
        raise HubError(_no_answer(error)) from error
    except (OSError, RuntimeError, ValueError) as error:  # of the system, of uploads, of the card's head
        raise HubError(f"the push failed ({one_line(error)[:160]}).") from error


def _refusal(error: HfHubHTTPError, repo_id: str) -> str:
    status = error.response.status_code
    said = f" ({' '.join(error.server_message.split())[:120]})" if error.server_message else ""
    reason, advice = {
        401: ("the Hub does not accept the token", f"Log in again (hf auth login), or set HF_TOKEN: {_settings()}"),
        403: (f"the Hub does not let this token write to {repo_id!r}", f"Make one that may at {_settings()}"),
        404: (f"the Hub knows no {repo_id!r}, or does not show it to this token", "Check the name"),
    }.get(status, (f"the Hub refuses the push ({status})", "Its page says more"))
    return why_later(error) or f"{reason}{said}. {advice}."


def _no_answer(error: HTTPError) -> str:
    if "Timeout" in type(error).__name__:  # the classes are of the client's own HTTP library, whichever it is
        return f"the Hub has not answered for {patience():g} seconds (HF_HUB_DOWNLOAD_TIMEOUT changes that)."
    return f"the connection to the Hub broke ({one_line(error)[:120]})."


def patience() -> float:
    """Seconds that the Hub may be silent."""
    return float(os.environ.get("HF_HUB_DOWNLOAD_TIMEOUT") or _PATIENCE_S)


def _settings() -> str:
    return f"{constants.ENDPOINT}/settings/tokens"
