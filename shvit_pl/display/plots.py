"""What plots have in common: small print below, plain numbers on logarithmic axes, and the way into a file."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from textwrap import wrap

from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

_PER_INCH = 17  # characters of the small print


def as_png(figure: Figure, dpi: int = 160) -> bytes:
    """A figure as the content of a file; `dpi` are pixels per inch."""
    buffer = BytesIO()
    figure.savefig(buffer, dpi=dpi)
    return buffer.getvalue()


def write_caption(figure: Figure, sentences: Sequence[str]) -> None:
    """Write sentences below the figure; each begins a line, and none is wider."""
    lines = _caption_lines(sentences, figure.get_figwidth())
    figure.supxlabel("\n".join(lines), fontsize=7, color="0.2", x=0.01, ha="left", linespacing=1.3)


def _caption_lines(sentences: Sequence[str], inches: float) -> list[str]:
    """Sentences broken into lines of a width."""
    return [line for sentence in sentences if sentence for line in wrap(sentence, int(inches * _PER_INCH))]


def caption_height(sentences: Sequence[str], inches: float) -> float:
    """Inches that sentences need below a figure of a width."""
    return 0.15 * len(_caption_lines(sentences, inches))


def write_plainly(axis: Axis) -> None:
    """Ticks of a logarithmic axis at 1, 2 and 5, as numbers without exponents."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())
