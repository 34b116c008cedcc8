<<<<<<< HEAD
"""What a trained model costs in use, and how it costs least. The name below is imported when first used."""
=======
"""What a trained model costs in use, how it costs least, and how it gets into other programs."""
>>>>>>> 9f02b7f01e74c11916c6d1ea4f0ae3d2464afe1e

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from shvit_pl.deploy.optimization import optimize

__all__ = ["optimize"]


def __getattr__(name: str) -> Any:
<<<<<<< HEAD
    if name != "optimize":
        raise AttributeError(f"module 'shvit_pl.deploy' has no attribute {name!r}")
=======
    """`optimize`, when it is asked for: a command's help does not wait for torch."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
>>>>>>> 9f02b7f01e74c11916c6d1ea4f0ae3d2464afe1e
    from shvit_pl.deploy.optimization import optimize

    return optimize
