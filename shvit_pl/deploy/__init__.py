"""What a trained model costs in use, and how it costs least. The name below is imported when first used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from shvit_pl.deploy.optimization import optimize

__all__ = ["optimize"]


def __getattr__(name: str) -> Any:
    if name != "optimize":
        raise AttributeError(f"module 'shvit_pl.deploy' has no attribute {name!r}")
    from shvit_pl.deploy.optimization import optimize

    return optimize
