"""What the Hub answers: to readers, to writers, and from its large file storage."""

import base64
import json
from pathlib import PurePosixPath
from urllib.parse import parse_qs

import yaml

from tests.hub_server.listening import HubError, Response, in_json, route
from tests.hub_server.repos import Commit, git_hash, is_large, sha256

PUBLIC_IN_A_GATED_REPO = ("README.md", ".gitattributes")


def account_of(hub, request):
    """Return whose token the client shows: nobody's where there is none; an unknown one is refused."""
    if request.token is not None and request.token not in hub.accounts:
        raise HubError(401, message="Invalid credentials in Authorization header")
    return hub.accounts.get(request.token)


def readable(hub, request, kind, repo_id):
    """Return a repository that the client may know of; from strangers, a private one is hidden."""
    account, repo = account_of(hub, request), hub.repos.get((kind, repo_id))
    if repo is None or (repo.private and not repo.open_to(account)):
        raise HubError(404 if account else 401, "RepoNotFound", "Repository not found")
    return repo


def writable(hub, request, kind, repo_id):
    repo = readable(hub, request, kind, repo_id)
    check_write(hub, request, repo.owner)
    return repo


def check_write(hub, request, owner):
    account = account_of(hub, request)
    if account is None:
        raise HubError(401, message="Invalid username or password.")
    if not account.write or account.name != owner:
        raise HubError(403, message=f"You don't have the rights to write to the namespace {owner!r}")


def check_gate(hub, request, repo):
    account = account_of(hub, request)
    if repo.gated and not repo.open_to(account):
        raise HubError(403 if account else 401, "GatedRepo", f"Access to {repo.id} is restricted.")


def commit_at(repo, revision):
    try:
        return repo.at(revision)
    except KeyError:
        raise HubError(404, "RevisionNotFound", f"Invalid rev id: {revision}") from None


@route("GET", "/api/whoami-v2")
def whoami(hub, request):
    account = account_of(hub, request)
    if account is None:
        raise HubError(401, message="Invalid username or password.")
    access = {"displayName": "tests", "role": "write" if account.write else "read"}
    auth = {"type": "access_token", "accessToken": access}
    return in_json({"type": "user", "name": account.name, "fullname": account.name, "orgs": [], "auth": auth})


@route("GET", "/api/{kind}/{repo}")
@route("GET", "/api/{kind}/{repo}/revision/{revision}")
def info(hub, request, kind, repo, revision="main"):
    found = readable(hub, request, kind, repo)
    commit = commit_at(found, revision)
    parts = commit.files.get("README.md", b"").decode().split("---\n")
    card = yaml.safe_load(parts[1]) or {} if len(parts) > 2 and not parts[0] else {}
    facts = {"id": repo, "sha": commit.id, "private": found.private, "gated": "manual" if found.gated else False}
    siblings = [{"rfilename": path} for path in commit.files]
    return in_json({**facts, "tags": card.get("tags", []), "cardData": card, "siblings": siblings})


@route("GET", "/api/{kind}/{repo}/tree/{revision}")
@route("GET", "/api/{kind}/{repo}/tree/{revision}/{path}")
def tree(hub, request, kind, repo, revision, path=""):
    commit, path = commit_at(readable(hub, request, kind, repo), revision), path.strip("/")
    rows = [row for row in list_rows(commit.files) if not path or row["path"].startswith(f"{path}/")]
    if path and not rows:
        raise HubError(404, "EntryNotFound")
    if "recursive=true" not in request.target.lower():
        depth = len(PurePosixPath(path).parts) + 1
        rows = [row for row in rows if len(PurePosixPath(row["path"]).parts) == depth]
    return in_json(rows)


@route("POST", "/api/{kind}/{repo}/paths-info/{revision}")
def paths_info(hub, request, kind, repo, revision):
    commit = commit_at(readable(hub, request, kind, repo), revision)
    wanted = {path.strip("/") for path in parse_qs(request.body.decode()).get("paths", [])}
    return in_json([row for row in list_rows(commit.files) if row["path"] in wanted])


def list_rows(files):
    folders = sorted({str(parent) for path in files for parent in PurePosixPath(path).parents} - {"."})
    rows = [{"type": "directory", "oid": git_hash(b""), "size": 0, "path": name} for name in folders]
    for path, content in files.items():
        rows.append({"type": "file", "path": path, "oid": git_hash(content), "size": len(content)})
        if is_large(path, content):
            rows[-1]["lfs"] = {"oid": sha256(content), "size": len(content), "pointerSize": 130}
    return rows


@route("GET", "/api/{kind}/{repo}/refs")
def refs(hub, request, kind, repo):
    found = readable(hub, request, kind, repo).branches.items()
    branches = [{"name": name, "ref": f"refs/heads/{name}", "targetCommit": commit} for name, commit in found]
    return in_json({"branches": branches, "tags": [], "converts": []})


@route("GET", "/api/{kind}/{repo}/auth-check")
def auth_check(hub, request, kind, repo):
    check_gate(hub, request, readable(hub, request, kind, repo))
    return in_json({})


@route("GET", "/{prefix}{repo}/resolve/{revision}/{path}")
def resolve(hub, request, prefix, repo, revision, path):
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
def create(hub, request):
    asked, account = request.json(), account_of(hub, request)
    kind, owner = f"{asked.get('type', 'model')}s", asked.get("organization") or (account.name if account else "")
    check_write(hub, request, owner)
    name = f"{owner}/{asked['name']}"
    if (kind, name) in hub.repos:
        error = f"You already created this {kind[:-1]} repo: {name}"
        return in_json({"error": error, "url": page(hub, kind, name)}, 409)
    hub.create(name, kind, is_private(asked))
    return in_json({"url": page(hub, kind, name), "name": name, "id": name})


def page(hub, kind, repo):
    return f"{hub.url}/{'' if kind == 'models' else 'datasets/'}{repo}"


@route("PUT", "/api/{kind}/{repo}/settings")
def settings(hub, request, kind, repo):
    found = writable(hub, request, kind, repo)
    found.private = is_private(request.json())
    return in_json({"private": found.private})


def is_private(asked):
    return asked.get("visibility") == "private" or bool(asked.get("private"))


@route("POST", "/api/validate-yaml")
def validate_yaml(hub, request):
    return in_json({"errors": [], "warnings": []})


@route("POST", "/api/{kind}/{repo}/branch/{revision}")
def create_branch(hub, request, kind, repo, revision):
    found = writable(hub, request, kind, repo)
    if revision in found.branches:
        raise HubError(409, message=f"Reference already exists: refs/heads/{revision}")
    found.branches[revision] = found.branches["main"]
    return in_json({})


@route("POST", "/api/{kind}/{repo}/preupload/{revision}")
def preupload(hub, request, kind, repo, revision):
    """Answer how each file is to be uploaded, and which of them the repository has already."""
    files = commit_at(writable(hub, request, kind, repo), revision).files
    rows = []
    for file in request.json()["files"]:
        path, large = file["path"], is_large(file["path"], base64.b64decode(file["sample"]))
        known = {"oid": (sha256 if large else git_hash)(files[path])} if path in files else {}
        rows.append({"path": path, "uploadMode": "lfs" if large else "regular", "shouldIgnore": False, **known})
    return in_json({"files": rows})


@route("POST", "/api/{kind}/{repo}/commit/{revision}")
def commit(hub, request, kind, repo, revision):
    """Do all operations or none: the branch moves only once the last of them is done."""
    found = writable(hub, request, kind, repo)
    header, *operations = [json.loads(line) for line in request.body.splitlines()]
    with hub.lock:
        parent = commit_at(found, revision)
        files = dict(parent.files)
        for operation in operations:
            change(hub, files, operation["key"], operation["value"])
        made = found.add(Commit(files, header["value"]["summary"], parent.id), revision)
    return in_json({"success": True, "commitOid": made.id, "commitUrl": f"{page(hub, kind, repo)}/commit/{made.id}"})


def change(hub, files, key, value):
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
def batch(hub, request, prefix, repo):
    writable(hub, request, prefix.strip("/") or "models", repo)
    rows = [{"oid": file["oid"], "size": file["size"]} for file in request.json()["objects"]]
    for row in rows:
        if row["oid"] not in hub.storage:
            row["actions"] = {"upload": {"href": f"{hub.storage_url}/{row['oid']}"}}
    return in_json({"transfer": "basic", "objects": rows})


@route("PUT", "/storage/{oid}")
def upload(hub, request, oid):
    if sha256(request.body) != oid:
        raise HubError(400, message="The content does not have the hash that it was announced with")
    hub.storage[oid] = request.body
    return Response()


@route("GET", "/storage/{oid}")
def download(hub, request, oid):
    """Answer without a token, from another host than the Hub's."""
    return Response(hub.storage[oid], {"ETag": f'"{oid}"', "Accept-Ranges": "bytes"})
