"""Repositories with their history: commits, branches, and who may read and write."""

import hashlib
import uuid
from dataclasses import dataclass, field

_LARGE = (".arrow", ".bin", ".ckpt", ".onnx", ".parquet", ".pt", ".pth", ".safetensors")
_ATTRIBUTES = "".join(f"*{suffix} filter=lfs diff=lfs merge=lfs -text\n" for suffix in _LARGE).encode()


@dataclass(frozen=True)
class Account:
    """Whom a token belongs to, and whether it may write."""

    name: str
    write: bool = True


@dataclass(frozen=True)
class Commit:
    """All files of a repository after one commit."""

    files: dict[str, bytes]
    message: str = ""
    parent: str | None = None
    id: str = field(default_factory=lambda: hashlib.sha1(uuid.uuid4().bytes).hexdigest())


@dataclass
class Repo:
    """One repository; `members` may read it where it is private or gated, besides its owner."""

    id: str
    private: bool = False
    gated: bool = False
    commits: dict[str, Commit] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    members: set[str] = field(default_factory=set)

    def __post_init__(self):
        self.add(Commit({".gitattributes": _ATTRIBUTES}, "initial commit"))

    @property
    def owner(self):
        return self.id.split("/")[0]

    @property
    def files(self):
        return self.at("main").files

    def at(self, revision):
        """Return the commit of a branch or a hash; raises `KeyError`."""
        return self.commits[self.branches.get(revision, revision)]

    def add(self, commit, branch="main"):
        self.commits[commit.id] = commit
        self.branches[branch] = commit.id
        return commit

    def history(self):
        found = [self.at("main")]
        while found[-1].parent is not None:
            found.append(self.commits[found[-1].parent])
        return found

    def open_to(self, account):
        return account is not None and account.name in {self.owner, *self.members}


def is_large(path, sample):
    """Return true for a file of the large file storage: by its name, or because it is not text."""
    return path.endswith(_LARGE) or b"\0" in sample[:512]


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def git_hash(content):
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
