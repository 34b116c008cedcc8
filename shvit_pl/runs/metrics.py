"""Names of the metrics of a run, and their directions."""

from typing import Literal, get_args

EMA = "_ema"  # ends the names of metrics that the averaged weights reach

Monitor = Literal["val/acc1", "val/acc1_ema", "val/acc5", "val/acc5_ema", "val/loss", "val/loss_ema"]
MONITORS: tuple[Monitor, ...] = get_args(Monitor)


def better(metric: str) -> Literal["min", "max"]:
    """Return the direction that is better: a loss should be low, all else high."""
    return "min" if "loss" in metric else "max"
