"""What clients write: repositories, settings, branches and commits."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import yaml

from tests.hub_server.access import account_of, check_write, writable
from tests.hub_server.messages import HubError, Request, Response, route
from tests.hub_server.reading import commit_at
from tests.hub_server.repos import Commit, Files, git_hash, is_large, sha256

if TYPE_CHECKING:
    from tests.hub_server.server import HubServer


@route("POST", "/api/repos/create")
def create(hub: HubServer, request: Request) -> Response:
    asked = request.json()
    kind, name = f"{asked.get('type', 'model')}s", _full_name(hub, request, asked)
    url = f"{hub.url}/{'' if kind == 'models' else 'datasets/'}{name}"
    if (kind, name) in hub.repos:
        return Response.of({"error": f"You already created this {kind[:-1]} repo: {name}", "url": url}, 409)
    hub.create(name, kind=kind, private=asked.get("visibility") == "private" or bool(asked.get("private")))
    return Response.of({"url": url, "name": name, "id": name})


@route("DELETE", "/api/repos/delete")
def delete(hub: HubServer, request: Request) -> Response:
    asked = request.json()
    kind, name = f"{asked.get('type', 'model')}s", _full_name(hub, request, asked)
    writable(hub, request, kind, name)
    del hub.repos[kind, name]
    return Response.of({})


def _full_name(hub: HubServer, request: Request, asked: dict[str, Any]) -> str:
    account = account_of(hub, request)
    owner = asked.get("organization") or (account.name if account else "")
    check_write(hub, request, owner)
    return f"{owner}/{asked['name']}"


@route("PUT", "/api/{kind}/{repo}/settings")
def settings(hub: HubServer, request: Request, kind: str, repo: str) -> Response:
    found, asked = writable(hub, request, kind, repo), request.json()
    if "visibility" in asked or "private" in asked:
        found.private = asked.get("visibility", "") == "private" or bool(asked.get("private"))
    if "gated" in asked:
        found.gated = bool(asked["gated"])
    return Response.of({"private": found.private, "gated": found.gated})


@route("POST", "/api/validate-yaml")
def validate_yaml(hub: HubServer, request: Request) -> Response:
    parts = request.json()["content"].split("---\n")
    try:
        header = yaml.safe_load(parts[1]) if len(parts) > 2 and not parts[0] else {}
    except yaml.YAMLError as error:
        return Response.of({"errors": [{"message": str(error)}], "warnings": []}, 400)
    warnings = [] if header else [{"message": "empty or missing yaml metadata in repo card"}]
    return Response.of({"errors": [], "warnings": warnings})


@route("POST", "/api/{kind}/{repo}/branch/{revision}")
def create_branch(hub: HubServer, request: Request, kind: str, repo: str, revision: str) -> Response:
    found = writable(hub, request, kind, repo)
    if revision in found.branches:
        raise HubError(409, message=f"Reference already exists: refs/heads/{revision}")
    found.branches[revision] = commit_at(found, request.json().get("startingPoint", "main")).id
    return Response.of({})


@route("DELETE", "/api/{kind}/{repo}/branch/{revision}")
def delete_branch(hub: HubServer, request: Request, kind: str, repo: str, revision: str) -> Response:
    found = writable(hub, request, kind, repo)
    if revision == "main":
        raise HubError(403, message="The branch main cannot be deleted")
    if found.branches.pop(revision, None) is None:
        raise HubError(404, "RevisionNotFound")
    return Response.of({})


@route("POST", "/api/{kind}/{repo}/tag/{revision}")
def create_tag(hub: HubServer, request: Request, kind: str, repo: str, revision: str) -> Response:
    found, tag = writable(hub, request, kind, repo), request.json()["tag"]
    if tag in found.tags:
        raise HubError(409, message=f"Tag {tag} already exists")
    found.tags[tag] = commit_at(found, revision).id
    return Response.of({})


@route("POST", "/api/{kind}/{repo}/preupload/{revision}")
def preupload(hub: HubServer, request: Request, kind: str, repo: str, revision: str) -> Response:
    """How each file is to be uploaded, and which of them the repository has already."""
    files = commit_at(writable(hub, request, kind, repo), revision).files
    rows = []
    for file in request.json()["files"]:
        path, large = file["path"], is_large(file["path"], base64.b64decode(file["sample"]))
        known = {"oid": (sha256 if large else git_hash)(files[path])} if path in files else {}
        rows.append({"path": path, "uploadMode": "lfs" if large else "regular", "shouldIgnore": False, **known})
    return Response.of({"files": rows})


@route("POST", "/api/{kind}/{repo}/commit/{revision}")
def commit(hub: HubServer, request: Request, kind: str, repo: str, revision: str) -> Response:
    """All operations or none: the branch moves only once the last of them is done."""
    found = writable(hub, request, kind, repo)
    if "create_pr" in request.query:
        raise HubError(400, message="This Hub has no pull requests")
    header, *operations = [json.loads(line) for line in request.body.splitlines()]
    with hub.lock:
        parent = commit_at(found, revision)
        if revision not in found.branches:
            raise HubError(403, message="Commits go to branches")
        if header["value"].get("parentCommit") not in (None, parent.id):
            raise HubError(412, message="A commit has happened since. Please refresh and try again.")
        files = dict(parent.files)
        for operation in operations:
            _apply(hub, files, operation["key"], operation["value"])
        made = found.add(Commit(files, header["value"]["summary"], parent.id), revision)
    url = f"{hub.url}/{'' if kind == 'models' else 'datasets/'}{repo}/commit/{made.id}"
    return Response.of({"success": True, "commitOid": made.id, "commitUrl": url})


def _apply(hub: HubServer, files: Files, key: str, value: dict[str, Any]) -> None:
    path = value["path"]
    if key == "file":
        files[path] = base64.b64decode(value["content"])
    elif key == "lfsFile":
        if value["oid"] not in hub.storage:
            raise HubError(400, message=f"The file {path} was not uploaded before it was committed")
        files[path] = hub.storage[value["oid"]]
    elif key == "deletedFile":
        _remove(files, [path] if path in files else [])
    elif key == "deletedFolder":
        _remove(files, [name for name in files if name.startswith(f"{path.rstrip('/')}/")])
    else:
        raise HubError(400, message=f"unknown operation {key!r}")


def _remove(files: Files, names: list[str]) -> None:
    if not names:
        raise HubError(404, "EntryNotFound", "A file with this name doesn't exist")
    for name in names:
        del files[name]
