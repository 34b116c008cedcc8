"""Colours that stand out from white, from black, and from each other."""

from __future__ import annotations

COLOURS = (
    "#3b7dd8", "#c8641b", "#2f8f4e", "#d0454c", "#8d63c9", "#96704a", "#c4559b", "#7a7f87", "#8a8412", "#1a8a9a",
)  # fmt: skip
QUIET = "#8a8f98"


def colour(number: int) -> str:
    """The colour of a cell, by its number from 1."""
    return COLOURS[(number - 1) % len(COLOURS)]


def is_dashed(number: int) -> bool:
    """Whether the cell shares its colour with one before it."""
    return (number - 1) // len(COLOURS) % 2 == 1
