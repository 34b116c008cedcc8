"""The colours and markers of plots."""

from __future__ import annotations

# that stand out from white, from black, and from each other
COLOURS = (
    "#3b7dd8", "#c8641b", "#2f8f4e", "#d0454c", "#8d63c9", "#96704a", "#c4559b", "#7a7f87", "#8a8412", "#1a8a9a",
)  # fmt: skip
QUIET = "#8a8f98"

# of Okabe and Ito, which the colour-blind can tell apart, and their grey
BLACK, ORANGE, SKY, GREEN, YELLOW = "#000000", "#E69F00", "#56B4E9", "#009E73", "#F0E442"
BLUE, VERMILION, PURPLE, GREY = "#0072B2", "#D55E00", "#CC79A7", "#999999"

MARKERS = "osD^vPX*"


def colour(number: int) -> str:
    """The colour of a cell, by its number from 1."""
    return COLOURS[(number - 1) % len(COLOURS)]


def is_dashed(number: int) -> bool:
    """Whether the cell shares its colour with one before it."""
    return (number - 1) // len(COLOURS) % 2 == 1
