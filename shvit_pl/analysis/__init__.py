"""Studies of networks: their attention heads, where the time of attention goes, and what each stage costs."""

from typing import Any


def __getattr__(name: str) -> Any:
    """Import `head_similarity` when it is asked for: a command's help does not wait for torch."""
    if name != "head_similarity":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from shvit_pl.analysis.attention_layers import head_similarity

    return head_similarity
