"""Who may read and write what, and how the Hub says no."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.hub_server.messages import HubError, Request
from tests.hub_server.repos import Account, Repo

if TYPE_CHECKING:
    from tests.hub_server.server import HubServer


def account_of(hub: HubServer, request: Request) -> Account | None:
    """Whose token the client shows; none is nobody, an unknown one is refused."""
    if request.token is None:
        return None
    if request.token not in hub.accounts:
        raise HubError(401, message="Invalid credentials in Authorization header")
    return hub.accounts[request.token]


def readable(hub: HubServer, request: Request, kind: str, repo_id: str) -> Repo:
    """A repository that the client may know of; strangers are not told whether a private one exists."""
    account, repo = account_of(hub, request), hub.repos.get((kind, repo_id))
    if repo is None or (repo.private and not repo.open_to(account)):
        raise HubError(404 if account else 401, "RepoNotFound", "Repository not found")
    return repo


def writable(hub: HubServer, request: Request, kind: str, repo_id: str) -> Repo:
    """A repository that the client may write to."""
    repo = readable(hub, request, kind, repo_id)
    check_write(hub, request, repo.owner)
    return repo


def check_write(hub: HubServer, request: Request, owner: str) -> None:
    """Refuse a client that may not write to the repositories of `owner`."""
    account = account_of(hub, request)
    if account is None:
        raise HubError(401, message="Invalid username or password.")
    if not account.write or account.name != owner:
        raise HubError(403, message=f"You don't have the rights to write to the namespace {owner!r}")


def check_gate(hub: HubServer, request: Request, repo: Repo) -> None:
    """Refuse a client that has not been let into a gated repository."""
    account = account_of(hub, request)
    if repo.gated and not repo.open_to(account):
        raise HubError(403 if account else 401, "GatedRepo", f"Access to {repo.id} is restricted.")
