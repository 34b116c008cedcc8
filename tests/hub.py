"""A Hugging Face Hub on the loopback interface: repositories in memory, spoken to by the real clients.

It answers what `huggingface_hub` and `datasets` ask when they read: info, listings, files, revisions, gates. Start it
with `with Hub() as hub`, fill it with `hub.commit(...)`, and run the client in a subprocess with
`hub.environment(folder)`, as the clients read these variables when they are imported.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

Files = dict[str, bytes]
PUBLIC_IN_A_GATED_REPO = ("README.md", ".gitattributes")

_API = re.compile(
    r"^/api/(?P<kind>models|datasets)/(?P<repo>[^/]+(?:/[^/]+)?)(?P<rest>/(?:revision|tree|auth-check).*)?$"
)
_FILE = re.compile(r"^/(?P<kind>datasets/)?(?P<repo>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<path>.+)$")


_RUNNER = """
import io, json, sys
from contextlib import redirect_stderr, redirect_stdout
from shvit_pl.cli import main

answers = []
for command in json.load(sys.stdin):
    with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
        code = main(command)
    answers.append({"code": code, "out": out.getvalue(), "err": err.getvalue()})
print(json.dumps(answers))
"""


@dataclass(frozen=True)
class Answer:
    """Exit code and output of one command."""

    code: int
    out: str
    err: str


@dataclass
class Repo:
    """One repository: its commits, oldest first, and what its branches point to."""

    commits: dict[str, Files] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    gated: bool = False


class HubError(Exception):
    """An answer other than 200, as the Hub words it."""

    def __init__(self, status: int, code: str = "", message: str = "") -> None:
        super().__init__(code or message)
        self.status, self.code, self.message = status, code, message or code


class Hub:
    """The server, and the repositories that it serves.

    Attributes:
        members: Tokens that the owners of gated repositories let in; any other token is known, but not let in.
    """

    def __init__(self) -> None:
        self.repos: dict[tuple[str, str], Repo] = {}
        self.members: set[str] = set()
        handler = type("Handler", (_Handler,), {"hub": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Hub:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_) -> None:
        self._server.shutdown()
        self._server.server_close()

    def commit(self, repo_id: str, files: Files, kind="datasets", branch="main", gated=False) -> str:
        """Add a commit with these files, and no others, to a branch; returns its hash."""
        repo = self.repos.setdefault((kind, repo_id), Repo())
        repo.gated = gated
        digest = hashlib.sha1(f"{repo_id} {branch} {len(repo.commits)}".encode()).hexdigest()
        repo.commits[digest] = dict(files)
        repo.branches[branch] = digest
        return digest

    def environment(self, home: Path, token: str | None = None) -> dict[str, str]:
        """The environment for a client of this Hub, with its cache in `home`."""
        own = {"HF_ENDPOINT": self.url, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", "HF_HUB_OFFLINE": "0"}
        own |= {"HF_HUB_DISABLE_TELEMETRY": "1", "NO_PROXY": "127.0.0.1"}
        env = {**os.environ, **own}
        env.pop("HF_TOKEN", None)
        return env | ({"HF_TOKEN": token} if token else {})

    def run(self, commands: list[list[str]], folder: Path, token: str | None = None) -> list[Answer]:
        """Run `shvit-pl` with each list of arguments, one after the other in one subprocess, in `folder`."""
        result = subprocess.run(
            [sys.executable, "-c", _RUNNER],
            input=json.dumps(commands),
            env=self.environment(folder / "home", token),
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 0, result.stderr
        return [Answer(**answer) for answer in json.loads(result.stdout.splitlines()[-1])]

    def find(self, kind: str, repo_id: str, revision: str, token: str | None) -> tuple[Repo, str]:
        """A repository and the hash of a revision of it."""
        repo = self.repos.get((kind, repo_id))
        if repo is None:  # the Hub does not tell strangers whether a repository exists
            raise HubError(404 if token else 401, "RepoNotFound")
        commit = repo.branches.get(revision, revision)
        if commit not in repo.commits:
            raise HubError(404, "RevisionNotFound")
        return repo, commit

    def check_gate(self, repo: Repo, token: str | None) -> None:
        """Raise what the Hub answers when a repository is closed to the owner of this token."""
        if repo.gated and token not in self.members:
            raise HubError(403 if token else 401, "GatedRepo", "Access to this dataset is restricted.")


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        url = urlsplit(self.path).path
        try:
            if match := _API.match(url):
                self._send(json.dumps(self._api(**match.groupdict())).encode(), {"Content-Type": "application/json"})
            elif match := _FILE.match(url):
                self._send(*self._file(**match.groupdict()))
            else:
                raise HubError(404, message=f"no such page: {url}")
        except HubError as error:
            headers = {"X-Error-Message": error.message} | ({"X-Error-Code": error.code} if error.code else {})
            self._send(json.dumps({"error": error.message}).encode(), headers, error.status)

    do_HEAD = do_GET

    def _api(self, kind: str, repo: str, rest: str | None) -> object:
        _, action, revision, *path = [*(rest or "/revision/main").split("/", 3), ""]
        found, commit = self.hub.find(kind, repo, unquote(revision) or "main", self._token())
        files = found.commits[commit]
        if action == "auth-check":
            self.hub.check_gate(found, self._token())
            return {}
        if action == "tree":
            return _listing(files, unquote(path[0]).strip("/"), "recursive=true" in self.path.lower())
        siblings = [{"rfilename": name} for name in files]
        return {
            "id": repo,
            "sha": commit,
            "siblings": siblings,
            "gated": "manual" if found.gated else False,
            "tags": [],
        }

    def _file(self, kind: str | None, repo: str, revision: str, path: str) -> tuple[bytes, dict[str, str]]:
        found, commit = self.hub.find("datasets" if kind else "models", repo, unquote(revision), self._token())
        path = unquote(path)
        if path not in PUBLIC_IN_A_GATED_REPO:
            self.hub.check_gate(found, self._token())
        if path not in found.commits[commit]:
            raise HubError(404, "EntryNotFound")
        content = found.commits[commit][path]
        return content, {"X-Repo-Commit": commit, "ETag": f'"{_sha256(content)}"', "Accept-Ranges": "bytes"}

    def _token(self) -> str | None:
        return self.headers.get("Authorization", "").removeprefix("Bearer ") or None

    def _send(self, body: bytes, headers: dict[str, str], status: int = 200) -> None:
        if (asked := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))) and status == 200:
            start, end = int(asked[1]), min(int(asked[2] or len(body)), len(body) - 1)
            headers |= {"Content-Range": f"bytes {start}-{end}/{len(body)}"}
            body, status = body[start : end + 1], 206
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_) -> None:
        """Nothing: the tests' output is theirs."""


def _listing(files: Files, folder: str, recursive: bool) -> list[dict[str, object]]:
    """The files and folders in a folder, as `tree` answers."""
    prefix = f"{folder}/" if folder else ""
    inside = {name.removeprefix(prefix): content for name, content in files.items() if name.startswith(prefix)}
    if folder and not inside:
        raise HubError(404, "EntryNotFound")
    folders = {str(parent) for name in inside for parent in Path(name).parents} - {"."}
    rows: list[dict[str, object]] = [{"type": "directory", "oid": "", "size": 0, "path": name} for name in folders]
    rows += [{"type": "file", "oid": _sha256(data), "size": len(data), "path": name} for name, data in inside.items()]
    return [{**row, "path": f"{prefix}{row['path']}"} for row in rows if recursive or "/" not in str(row["path"])]


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
