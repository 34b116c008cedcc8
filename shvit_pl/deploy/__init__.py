"""What a trained model costs in use, and how it costs least."""

from shvit_pl.deploy.optimization import optimize

__all__ = ["optimize"]
