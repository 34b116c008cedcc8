"""Colors and markers of plots, captions, ranges of axes, plain logarithmic axes, and PNG files."""

import warnings
from collections.abc import Sequence
from io import BytesIO
from math import inf, sqrt
from textwrap import wrap
from typing import Literal

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter
from numpy.typing import NDArray
from PIL import Image

matplotlib.rcParams["text.parse_math"] = False  # a class may be called $a$

# colors that stand out from white, from black, and from each other
COLORS = (
    "#3b7dd8", "#c8641b", "#2f8f4e", "#d0454c", "#8d63c9", "#96704a", "#c4559b", "#7a7f87", "#8a8412", "#1a8a9a",
)  # fmt: skip
QUIET = "#8a8f98"

# the colors by Okabe and Ito, which the color-blind can tell apart, and their gray
BLACK, ORANGE, SKY, GREEN, YELLOW = "#000000", "#E69F00", "#56B4E9", "#009E73", "#F0E442"
BLUE, VERMILION, PURPLE, GRAY = "#0072B2", "#D55E00", "#CC79A7", "#999999"

MARKERS = "osD^vPX*"

LEAST_ACCURACY = 0.02  # that an axis covers: less is noise, and would look like a cliff
LEAST_LOSS = 0.1
LEAST_FACTOR = 1.5  # of a logarithmic axis
_NAME = 24  # characters of a name
_PER_INCH = 17  # characters of the small print


def color(number: int) -> str:
    """Return the color of a cell, by its number from 1."""
    return COLORS[(number - 1) % len(COLORS)]


def as_png(figure: Figure, dpi: int = 160) -> bytes:
    """Return a figure as the content of a file; `dpi` are pixels per inch."""
    return encode_png(pixels(figure, dpi), dpi)


def encode_png(image: NDArray[np.uint8], dpi: int) -> bytes:
    """Return pixels `(height, width, 3 or 4)` as the content of a file; `dpi` are pixels per inch."""
    buffer = BytesIO()
    Image.fromarray(image).save(buffer, "PNG", dpi=(dpi, dpi))
    return buffer.getvalue()


def pixels(figure: Figure, dpi: int) -> NDArray[np.uint8]:
    """Return a figure as RGBA pixels `(height, width, 4)`, `dpi` of them per inch; `savefig` would draw it twice."""
    figure.set_dpi(dpi)
    canvas = FigureCanvasAgg(figure)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # of a name: a box is drawn
        canvas.draw()  # type: ignore[no-untyped-call]
    return np.asarray(canvas.buffer_rgba())  # type: ignore[no-untyped-call]


def write_caption(figure: Figure, sentences: Sequence[str]) -> None:
    """Write sentences below the figure; each begins a line, and none is wider than it."""
    lines = _caption_lines(sentences, figure.get_figwidth())
    figure.supxlabel("\n".join(lines), fontsize=7, color="0.2", x=0.01, ha="left", linespacing=1.3)


def _caption_lines(sentences: Sequence[str], inches: float) -> list[str]:
    """Break sentences into lines of a width."""
    return [line for sentence in sentences if sentence for line in wrap(sentence, int(inches * _PER_INCH))]


def caption_height(sentences: Sequence[str], inches: float) -> float:
    """Return the inches that sentences need below a figure of a width."""
    return 0.15 * len(_caption_lines(sentences, inches))


def widen(axes: Axes, axis: Literal["x", "y"], least: float, lowest: float = -inf, highest: float = inf) -> None:
    """Widen an axis, once all is drawn, to a range of at least `least`, between bounds; a logarithmic one to a factor.

    Bounds have a margin, so that markers at them are whole.
    """
    low, high = getattr(axes, f"get_{axis}lim")()
    if getattr(axes, f"get_{axis}scale")() == "log":
        if high / low < least:
            middle = sqrt(low * high)
            getattr(axes, f"set_{axis}lim")(middle / sqrt(least), middle * sqrt(least))
    elif high - low < least:
        middle, margin = (low + high) / 2, least / 20
        low = max(min(middle - least / 2, highest + margin - least), lowest - margin)
        getattr(axes, f"set_{axis}lim")(low, low + least)


def short_name(name: str) -> str:
    """Return a name of one line that leaves room for the figure."""
    line = " ".join(name.split())
    return line if len(line) <= _NAME else f"{line[: _NAME - 1]}…"


def legend_label(name: str) -> str:
    """Return a name for a legend, which leaves out those that begin with an underscore."""
    return f" {name}" if name.startswith("_") else name


def write_plainly(axis: Axis) -> None:
    """Set ticks of a logarithmic axis at 1, 2 and 5, as numbers without exponents."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())
