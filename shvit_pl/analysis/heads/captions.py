"""Small print below a figure."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import wrap

from matplotlib.figure import Figure

_PER_INCH = 17  # characters of this size


def write_caption(figure: Figure, sentences: Sequence[str]) -> None:
    """Write sentences below the figure; each begins a line, and none is wider."""
    lines = caption_lines(sentences, figure.get_figwidth())
    figure.supxlabel("\n".join(lines), fontsize=7, color="0.2", x=0.01, ha="left", linespacing=1.3)


def caption_lines(sentences: Sequence[str], inches: float) -> list[str]:
    """Sentences broken into lines of a width."""
    return [line for sentence in sentences if sentence for line in wrap(sentence, int(inches * _PER_INCH))]
