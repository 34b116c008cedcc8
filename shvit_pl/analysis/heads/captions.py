"""Small print below a figure."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import wrap

from matplotlib.figure import Figure

_PER_INCH = 19  # characters of this size


def write_caption(figure: Figure, sentences: Sequence[str]) -> None:
    """Write sentences below the figure, each on lines of its own that fit its width."""
    width = int(figure.get_figwidth() * _PER_INCH)
    lines = [line for sentence in sentences if sentence for line in wrap(sentence, width)]
    figure.supxlabel("\n".join(lines), fontsize=7, color="0.3", x=0.01, ha="left")
