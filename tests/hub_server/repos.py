"""Repositories with their history: commits, branches, and who may read and write."""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime

Files = dict[str, bytes]

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

    files: Files
    message: str = ""
    parent: str | None = None
    id: str = field(default_factory=lambda: hashlib.sha1(uuid.uuid4().bytes).hexdigest())
    date: datetime = field(default_factory=lambda: datetime.now(UTC))


@dataclass
class Repo:
    """One repository.

    Attributes:
        commits: Every commit by its hash, oldest first.
        branches: The hash that each branch points to; `tags` likewise.
        members: Names of the accounts, besides the owner's, that may read it where it is private or gated.
    """

    id: str
    kind: str = "models"
    private: bool = False
    gated: bool = False
    commits: dict[str, Commit] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    members: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.add(Commit({".gitattributes": _ATTRIBUTES}, "initial commit"))

    @property
    def owner(self) -> str:
        """The name before the slash."""
        return self.id.split("/")[0]

    @property
    def files(self) -> Files:
        """The files on `main`."""
        return self.at("main").files

    def at(self, revision: str) -> Commit:
        """The commit of a branch, a tag or a hash; raises `KeyError`."""
        return self.commits[self.branches.get(revision) or self.tags.get(revision) or revision]

    def add(self, commit: Commit, branch: str = "main") -> Commit:
        """Put a commit on a branch, in one step."""
        self.commits[commit.id] = commit
        self.branches[branch] = commit.id
        return commit

    def history(self, revision: str = "main") -> list[Commit]:
        """The commits up to a revision, newest first."""
        found, commit = [], self.at(revision)
        while True:
            found.append(commit)
            if commit.parent is None:
                return found
            commit = self.commits[commit.parent]

    def open_to(self, account: Account | None) -> bool:
        """Whether this account is the owner's, or has been let in."""
        return account is not None and account.name in {self.owner, *self.members}


def is_large(path: str, sample: bytes) -> bool:
    """Whether the Hub keeps a file in its large file storage: by its name, or because it is not text."""
    return path.endswith(_LARGE) or b"\0" in sample[:512]


def sha256(content: bytes) -> str:
    """The hash by which the large file storage knows a file."""
    return hashlib.sha256(content).hexdigest()


def git_hash(content: bytes) -> str:
    """The hash by which git knows a file."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def pointer(content: bytes) -> bytes:
    """What git holds in place of a large file."""
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256(content)}\nsize {len(content)}\n".encode()
