"""What the Hub answers: to readers, to writers, and from its large file storage."""

from __future__ import annotations

import base64
import json
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import yaml

from tests.hub_server.listening import HubError, Request, Response, route
from tests.hub_server.repos import Account, Commit, Files, Repo, git_hash, is_large, sha256

if TYPE_CHECKING:
    from tests.hub_server.server import HubServer

PUBLIC_IN_A_GATED_REPO = ("README.md", ".gitattributes")


def account_of(hub: HubServer, request: Request) -> Account | None:
    """Return whose token the client shows: nobody's where there is none; an unknown one is refused."""
    if request.token is None:
        return None
    if request.token not in hub.accounts:
        raise HubError(401, message="Invalid credentials in Authorization header")
    return hub.accounts[request.token]


def readable(hub: HubServer, request: Request, kind: str, repo_id: str) -> Repo:
    """Return a repository that the client may know of; from strangers, a private one is hidden."""
    account, repo = account_of(hub, request), hub.repos.get((kind, repo_id))
    if repo is None or (repo.private and not repo.open_to(account)):
        raise HubError(404 if account else 401, "RepoNotFound", "Repository not found")
    return repo


def writable(hub: HubServer, request: Request, kind: str, repo_id: str) -> Repo:
    """Return a repository that the client may write to."""
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


def commit_at(repo: Repo, revision: str) -> Commit:
    """Return the commit of a revision, or the Hub's refusal."""
    try:
        return repo.at(revision)
    except KeyError:
        raise HubError(404, "RevisionNotFound", f"Invalid rev id: {revision}") from None


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
    parts = commit.files.get("README.md", b"").decode().split("---\n")
    card = yaml.safe_load(parts[1]) or {} if len(parts) > 2 and not parts[0] else {}
    facts = {"id": repo, "sha": commit.id, "private": found.private, "gated": "manual" if found.gated else False}
    siblings = [{"rfilename": path} for path in commit.files]
    return Response.of({**facts, "tags": card.get("tags", []), "cardData": card, "siblings": siblings})


@route("GET", "/api/{kind}/{repo}/tree/{revision}")
def tree(hub: HubServer, request: Request, kind: str, repo: str, revision: str) -> Response:
    return subtree(hub, request, kind, repo, revision, "")


@route("GET", "/api/{kind}/{repo}/tree/{revision}/{path}")
def subtree(hub: HubServer, request: Request, kind: str, repo: str, revision: str, path: str) -> Response:
    commit, path = commit_at(readable(hub, request, kind, repo), revision), path.strip("/")
    rows = [row for row in _rows(commit.files) if not path or row["path"].startswith(f"{path}/")]
    if path and not rows:
        raise HubError(404, "EntryNotFound")
    if request.query.get("recursive", "").lower() != "true":
        depth = len(PurePosixPath(path).parts) + 1
        rows = [row for row in rows if len(PurePosixPath(row["path"]).parts) == depth]
    return Response.of(rows)


@route("POST", "/api/{kind}/{repo}/paths-info/{revision}")
def paths_info(hub: HubServer, request: Request, kind: str, repo: str, revision: str) -> Response:
    commit = commit_at(readable(hub, request, kind, repo), revision)
    wanted = {path.strip("/") for path in parse_qs(request.body.decode()).get("paths", [])}
    return Response.of([row for row in _rows(commit.files) if row["path"] in wanted])


def _rows(files: Files) -> list[dict[str, Any]]:
    """Return every folder and file as the Hub lists them."""
    folders = sorted({str(parent) for path in files for parent in PurePosixPath(path).parents} - {"."})
    rows: list[dict[str, Any]] = [{"type": "directory", "oid": git_hash(b""), "size": 0, "path": n} for n in folders]
    for path, content in files.items():
        rows.append({"type": "file", "path": path, "oid": git_hash(content), "size": len(content)})
        if is_large(path, content):
            rows[-1]["lfs"] = {"oid": sha256(content), "size": len(content), "pointerSize": 130}
    return rows


@route("GET", "/api/{kind}/{repo}/refs")
def refs(hub: HubServer, request: Request, kind: str, repo: str) -> Response:
    found = readable(hub, request, kind, repo)
    branches = [
        {"name": name, "ref": f"refs/heads/{name}", "targetCommit": commit} for name, commit in found.branches.items()
    ]
    return Response.of({"branches": branches, "tags": [], "converts": []})


@route("GET", "/api/{kind}/{repo}/auth-check")
def auth_check(hub: HubServer, request: Request, kind: str, repo: str) -> Response:
    check_gate(hub, request, readable(hub, request, kind, repo))
    return Response.of({})


@route("GET", "/{prefix}{repo}/resolve/{revision}/{path}")
def resolve(hub: HubServer, request: Request, prefix: str, repo: str, revision: str, path: str) -> Response:
    """Answer with a file; one of the large file storage by way of its address there, as on the Hub."""
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
    oid = sha256(content)
    hub.storage[oid] = content
    linked = {"X-Linked-Etag": f'"{oid}"', "X-Linked-Size": str(len(content))}
    return Response(b"", {**headers, **linked, "Location": f"{hub.storage_url}/{oid}"}, 302)


@route("POST", "/api/repos/create")
def create(hub: HubServer, request: Request) -> Response:
    asked, account = request.json(), account_of(hub, request)
    kind, owner = f"{asked.get('type', 'model')}s", asked.get("organization") or (account.name if account else "")
    check_write(hub, request, owner)
    name = f"{owner}/{asked['name']}"
    url = f"{hub.url}/{'' if kind == 'models' else 'datasets/'}{name}"
    if (kind, name) in hub.repos:
        return Response.of({"error": f"You already created this {kind[:-1]} repo: {name}", "url": url}, 409)
    hub.create(name, kind, _private(asked))
    return Response.of({"url": url, "name": name, "id": name})


@route("PUT", "/api/{kind}/{repo}/settings")
def settings(hub: HubServer, request: Request, kind: str, repo: str) -> Response:
    found = writable(hub, request, kind, repo)
    found.private = _private(request.json())
    return Response.of({"private": found.private})


def _private(asked: dict[str, Any]) -> bool:
    return asked.get("visibility") == "private" or bool(asked.get("private"))


@route("POST", "/api/validate-yaml")
def validate_yaml(hub: HubServer, request: Request) -> Response:
    return Response.of({"errors": [], "warnings": []})


@route("POST", "/api/{kind}/{repo}/branch/{revision}")
def create_branch(hub: HubServer, request: Request, kind: str, repo: str, revision: str) -> Response:
    found = writable(hub, request, kind, repo)
    if revision in found.branches:
        raise HubError(409, message=f"Reference already exists: refs/heads/{revision}")
    found.branches[revision] = found.branches["main"]
    return Response.of({})


@route("POST", "/api/{kind}/{repo}/preupload/{revision}")
def preupload(hub: HubServer, request: Request, kind: str, repo: str, revision: str) -> Response:
    """Answer how each file is to be uploaded, and which of them the repository has already."""
    files = commit_at(writable(hub, request, kind, repo), revision).files
    rows = []
    for file in request.json()["files"]:
        path, large = file["path"], is_large(file["path"], base64.b64decode(file["sample"]))
        known = {"oid": (sha256 if large else git_hash)(files[path])} if path in files else {}
        rows.append({"path": path, "uploadMode": "lfs" if large else "regular", "shouldIgnore": False, **known})
    return Response.of({"files": rows})


@route("POST", "/api/{kind}/{repo}/commit/{revision}")
def commit(hub: HubServer, request: Request, kind: str, repo: str, revision: str) -> Response:
    """Do all operations or none: the branch moves only once the last of them is done."""
    found = writable(hub, request, kind, repo)
    header, *operations = [json.loads(line) for line in request.body.splitlines()]
    with hub.lock:
        parent = commit_at(found, revision)
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
    elif key == "lfsFile" and value["oid"] in hub.storage:
        files[path] = hub.storage[value["oid"]]
    elif key == "deletedFile" and path in files:
        del files[path]
    else:
        raise HubError(400, message=f"{key} {path} can't be done")


@route("POST", "/{prefix}{repo}\\.git/info/lfs/objects/batch")
def batch(hub: HubServer, request: Request, prefix: str, repo: str) -> Response:
    """Answer where to upload which of the files; those that are there already need none."""
    writable(hub, request, prefix.strip("/") or "models", repo)

    def instructions(file: dict[str, Any]) -> dict[str, Any]:
        row = {"oid": file["oid"], "size": file["size"]}
        if file["oid"] in hub.storage:
            return row
        return row | {"actions": {"upload": {"href": f"{hub.storage_url}/{file['oid']}"}}}

    return Response.of({"transfer": "basic", "objects": [instructions(file) for file in request.json()["objects"]]})


@route("PUT", "/storage/{oid}")
def upload(hub: HubServer, request: Request, oid: str) -> Response:
    if sha256(request.body) != oid:
        raise HubError(400, message="The content does not have the hash that it was announced with")
    hub.storage[oid] = request.body
    return Response()


@route("GET", "/storage/{oid}")
def download(hub: HubServer, request: Request, oid: str) -> Response:
    """Answer without a token, from another host than the Hub's."""
    return Response(hub.storage[oid], {"ETag": f'"{oid}"', "Accept-Ranges": "bytes"})
