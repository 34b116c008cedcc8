"""What a network does inside: its heads, where its time goes, and what its stages cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from shvit_pl.analysis.heads.attention import head_similarity

__all__ = ["head_similarity"]


def __getattr__(name: str) -> Any:
    """`head_similarity`, when it is asked for: a command's help does not wait for torch."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from shvit_pl.analysis.heads.attention import head_similarity

    return head_similarity
