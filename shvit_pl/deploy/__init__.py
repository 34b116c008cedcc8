"""Speed of trained networks, their fastest equal form, and their export to other programs."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from shvit_pl.deploy.optimization import optimize

__all__ = ["optimize"]


def __getattr__(name: str) -> Any:
    """Return `optimize` when it is asked for: a command's help doesn't wait for torch."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from shvit_pl.deploy.optimization import optimize

    return optimize
