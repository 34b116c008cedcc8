"""What clients read: who they are, repositories, listings and files."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import yaml

from tests.hub_server.access import account_of, check_gate, readable
from tests.hub_server.messages import HubError, Request, Response, route
from tests.hub_server.repos import Commit, Repo, git_hash, is_large, pointer, sha256

if TYPE_CHECKING:
    from tests.hub_server.server import HubServer

PUBLIC_IN_A_GATED_REPO = ("README.md", ".gitattributes")


@route("GET", "/api/whoami-v2")
def whoami(hub: HubServer, request: Request) -> Response:
    account = account_of(hub, request)
    if account is None:
        raise HubError(401, message="Invalid username or password.")
    access = {"displayName": "tests", "role": "write" if account.write else "read"}
    auth = {"type": "access_token", "accessToken": access}
    return Response.of({"type": "user", "name": account.name, "fullname": account.name, "orgs": [], "auth": auth})


@route("GET", "/api/{kind}/{repo}")
def info(hub: HubServer, request: Request, kind: str, repo: str) -> Response:
    return revision_info(hub, request, kind, repo, "main")


@route("GET", "/api/{kind}/{repo}/revision/{revision}")
def revision_info(hub: HubServer, request: Request, kind: str, repo: str, revision: str) -> Response:
    found = readable(hub, request, kind, repo)
    commit = commit_at(found, revision)
    card = _card_data(commit.files.get("README.md", b""))
    facts = {"id": repo, "sha": commit.id, "private": found.private, "gated": "manual" if found.gated else False}
    dates = {"createdAt": _date(found.history()[-1]), "lastModified": _date(commit)}
    siblings = [{"rfilename": path, **_described(path, data, "blobId")} for path, data in commit.files.items()]
    return Response.of({**facts, **dates, "tags": card.get("tags", []), "cardData": card, "siblings": siblings})


@route("GET", "/api/{kind}/{repo}/tree/{revision}")
def tree(hub: HubServer, request: Request, kind: str, repo: str, revision: str) -> Response:
    return subtree(hub, request, kind, repo, revision, "")


@route("GET", "/api/{kind}/{repo}/tree/{revision}/{path}")
def subtree(hub: HubServer, request: Request, kind: str, repo: str, revision: str, path: str) -> Response:
    commit = commit_at(readable(hub, request, kind, repo), revision)
    rows = _rows(commit, path.strip("/"), request.query.get("expand", "").lower() == "true")
    if path and not rows:
        raise HubError(404, "EntryNotFound")
    if request.query.get("recursive", "").lower() != "true":
        depth = len(PurePosixPath(path).parts) + 1
        rows = [row for row in rows if len(PurePosixPath(row["path"]).parts) == depth]
    return Response.of(rows)


@route("POST", "/api/{kind}/{repo}/paths-info/{revision}")
def paths_info(hub: HubServer, request: Request, kind: str, repo: str, revision: str) -> Response:
    commit = commit_at(readable(hub, request, kind, repo), revision)
    expand = request.form.get("expand", [""])[-1].lower() == "true"
    wanted = {path.strip("/") for path in request.form.get("paths", [])}
    return Response.of([row for row in _rows(commit, "", expand) if row["path"] in wanted])


@route("GET", "/api/{kind}/{repo}/refs")
def refs(hub: HubServer, request: Request, kind: str, repo: str) -> Response:
    found = readable(hub, request, kind, repo)
    branches = [_ref(f"refs/heads/{name}", commit) for name, commit in found.branches.items()]
    tags = [_ref(f"refs/tags/{name}", commit) for name, commit in found.tags.items()]
    return Response.of({"branches": branches, "tags": tags, "converts": []})


@route("GET", "/api/{kind}/{repo}/commits/{revision}")
def commits(hub: HubServer, request: Request, kind: str, repo: str, revision: str) -> Response:
    found = readable(hub, request, kind, repo)
    history = found.history(commit_at(found, revision).id)
    authors = [{"user": found.owner}]
    return Response.of(
        [{"id": c.id, "title": c.message, "message": "", "date": _date(c), "authors": authors} for c in history]
    )


@route("GET", "/api/{kind}/{repo}/auth-check")
def auth_check(hub: HubServer, request: Request, kind: str, repo: str) -> Response:
    check_gate(hub, request, readable(hub, request, kind, repo))
    return Response.of({})


@route("GET", "/{prefix}{repo}/resolve/{revision}/{path}")
def resolve(hub: HubServer, request: Request, prefix: str, repo: str, revision: str, path: str) -> Response:
    """A file; one of the large file storage by way of its address there, as on the Hub."""
    found = readable(hub, request, prefix.strip("/") or "models", repo)
    commit = commit_at(found, revision)
    if path not in PUBLIC_IN_A_GATED_REPO:
        check_gate(hub, request, found)
    headers = {"X-Repo-Commit": commit.id}
    if path not in commit.files:
        raise HubError(404, "EntryNotFound", headers=headers)
    content = commit.files[path]
    if not is_large(path, content):
        return Response(content, {**headers, "ETag": f'"{git_hash(content)}"', "Accept-Ranges": "bytes"})
    linked = {"X-Linked-Etag": f'"{sha256(content)}"', "X-Linked-Size": str(len(content))}
    return Response(b"", {**headers, **linked, "Location": hub.storage_address(content)}, 302)


def commit_at(repo: Repo, revision: str) -> Commit:
    """The commit of a revision, or the Hub's refusal."""
    try:
        return repo.at(revision)
    except KeyError:
        raise HubError(404, "RevisionNotFound", f"Invalid rev id: {revision}") from None


def _rows(commit: Commit, folder: str, expand: bool) -> list[dict[str, Any]]:
    """Every file and folder below a folder, as `tree` lists them."""
    last = {"id": commit.id, "title": commit.message, "date": _date(commit)}
    more = {"lastCommit": last} if expand else {}
    folder_row = {"type": "directory", "oid": git_hash(b""), "size": 0}
    rows: list[dict[str, Any]] = [{**folder_row, "path": name} for name in _folders(commit.files)]
    rows += [{"type": "file", "path": path, **_described(path, data)} for path, data in commit.files.items()]
    return [row | more for row in rows if not folder or row["path"].startswith(f"{folder}/")]


def _folders(files: Iterable[str]) -> list[str]:
    return sorted({str(parent) for path in files for parent in PurePosixPath(path).parents} - {"."})


def _described(path: str, content: bytes, oid: str = "oid") -> dict[str, Any]:
    if not is_large(path, content):
        return {oid: git_hash(content), "size": len(content)}
    inside = pointer(content)
    lfs = {"oid": sha256(content), "sha256": sha256(content), "size": len(content), "pointerSize": len(inside)}
    return {oid: git_hash(inside), "size": len(content), "lfs": lfs}


def _card_data(readme: bytes) -> dict[str, Any]:
    parts = readme.decode().split("---\n")
    return yaml.safe_load(parts[1]) or {} if len(parts) > 2 and not parts[0] else {}


def _ref(ref: str, commit: str) -> dict[str, str]:
    return {"name": ref.split("/", 2)[2], "ref": ref, "targetCommit": commit}


def _date(commit: Commit) -> str:
    return commit.date.strftime("%Y-%m-%dT%H:%M:%S.000Z")
