"""The server: accounts, repositories, errors on demand, and the environment for its clients."""

import os
import re
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.hub_server import endpoints  # noqa: F401  (they register what they answer)
from tests.hub_server.listening import Listener
from tests.hub_server.repos import Account, Commit, Repo, sha256

_OF_THE_USER = ("HUGGING_FACE_HUB_TOKEN", "HF_TOKEN_PATH", "HF_HUB_CACHE", "HF_DATASETS_CACHE")


@dataclass
class Fault:
    """What is to go wrong with the next requests whose `METHOD /path` matches."""

    path: str
    """A regular expression to search for."""
    status: int = 0
    """The status to answer with; 0 for no answer."""
    cut: bool = False
    """Close the connection in the middle of the upload, or without an answer."""
    times: int = 1
    headers: Mapping[str, str] = field(default_factory=dict)
    """What else to answer with, such as Retry-After."""
    reached: threading.Event = field(default_factory=threading.Event)
    """Set once it has struck."""

    def strikes(self, request):
        if self.times <= 0 or not re.search(self.path, request):
            return False
        self.times -= 1
        self.reached.set()
        return True


class HubServer:
    """A Hub of its own, empty at first; its account `user` owns the repositories `user/...`."""

    def __init__(self, port=0):
        self.repos = {}  # by kind (`models`, `datasets`) and id
        self.storage = {}  # contents by their hashes
        self.accounts = {}  # by their tokens
        self.faults = []
        self.requests = []  # what clients asked, in order
        self.lock = threading.Lock()
        self.closing = threading.Event()
        self.token = self.account("user")
        self._listener = Listener(self, port)
        self.url = f"http://127.0.0.1:{self._listener.server_port}"
        self.storage_url = f"http://localhost:{self._listener.server_port}/storage"  # another host, as on the Hub
        self._home = tempfile.TemporaryDirectory(prefix="hub_client_")

    def __enter__(self):
        self._listener.start()
        return self

    def __exit__(self, *_):
        self.stop()
        self._home.cleanup()

    def stop(self):
        """Answer nobody any more, as when the Hub can't be reached; connections are closed."""
        if not self.closing.is_set():
            self.closing.set()
            self._listener.stop()

    def account(self, name, write=True):
        token = f"hf_{name}{'' if write else '_read'}"
        self.accounts[token] = Account(name, write)
        return token

    def create(self, repo_id, kind="models", private=False):
        return self.repos.setdefault((kind, repo_id), Repo(repo_id, private))

    def commit(self, repo_id, files, kind="datasets", branch="main", gated=False):
        """Put these files, and no others, on a branch of a repository, which is made if needed; returns the hash."""
        repo = self.create(repo_id, kind)
        repo.gated = gated
        self.storage |= {sha256(content): content for content in files.values()}
        return repo.add(Commit(dict(files), "by a test", repo.branches.get(branch)), branch).id

    def repo(self, repo_id, kind="models"):
        """Return a repository: its `files`, `private`, `branches`, `history()`."""
        return self.repos[kind, repo_id]

    def fail(self, status, path="", times=1, headers=None):
        """Answer the next requests whose `METHOD /path` matches the expression `path` with this status."""
        return self._add(Fault(path, status, times=times, headers=headers or {}))

    def stall(self, path):
        """Never answer the next request that matches; `fault.reached` is set when there is one."""
        return self._add(Fault(path))

    def cut(self, path, times=1):
        """Close the connection of the next requests that match, in the middle of the upload, or without answer."""
        return self._add(Fault(path, cut=True, times=times))

    def _add(self, fault):
        self.faults.append(fault)
        return fault

    def environment(self):
        """Return the environment for a process that is a client of this Hub, with the token of `user`."""
        own = {"HF_ENDPOINT": self.url, "HF_HOME": self._home.name, "HF_HUB_DISABLE_XET": "1", "HF_TOKEN": self.token}
        own |= {"HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_TELEMETRY": "1", "NO_PROXY": "127.0.0.1,localhost"}
        return {name: value for name, value in os.environ.items() if name not in _OF_THE_USER} | own
