"""Where a run is pushed to."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Target:
    """A repository of the Hub.

    Attributes:
        repo_id: `user/name`; made if it is not there.
        revision: A branch other than main; made if it is not there.
        public: Show the repository to everybody; otherwise a new one is private, and another stays as it is.
    """

    repo_id: str
    revision: str | None = None
    public: bool = False

    @property
    def name(self) -> str:
        """The repository's own name."""
        return self.repo_id.split("/")[-1]

    @property
    def source(self) -> str:
        """What timm and this package load it by."""
        return f"hf-hub:{self.repo_id}" + (f"@{self.revision}" if self.revision else "")
