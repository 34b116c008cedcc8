"""The whole of the ablation: layer by head, in both modes."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import Normal, withStroke
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from shvit_pl.analysis.heads.found.findings import Findings
from shvit_pl.analysis.heads.found.results import MODES
from shvit_pl.display.plots import BLUE, VERMILION, caption_height, write_caption

IMPORTANT, REDUNDANT = VERMILION, BLUE
MARKS = "most important head of a layer framed orange, most redundant blue"
_MOST_NUMBERS = 12 * 12  # cells that are written into
_MOST_TICKS = 24


def draw_heat_maps(findings: Findings) -> Figure:
    """Points of top-1, layer by head: without each head, and with each one alone; framed are the extreme heads."""
    layers, heads = len(findings.layers), max(layer.heads for layer in findings.layers)
    panels = list(MODES) if heads > 1 else ["without"]
    marks = [MARKS] if any(layer.important is not None for layer in findings.layers) else []
    sentences = [findings.title, f"change of {findings.brief} in points, {findings.measured}", *marks]
    width = max(6.0, 2.0 + 0.62 * layers)
    height = 0.3 + caption_height(sentences, width) + len(panels) * (0.9 + 0.32 * heads)
    figure = Figure(figsize=(width, height), layout="constrained")
    for axes, mode in zip(figure.subplots(len(panels), 1, squeeze=False)[:, 0], panels, strict=True):
        _panel(figure, axes, findings, mode)
    write_caption(figure, sentences)
    return figure


def _panel(figure: Figure, axes: Axes, findings: Findings, mode: str) -> None:
    values = _values(findings, mode)
    low, high = min(float(np.nanmin(values)), -0.01), max(float(np.nanmax(values)), 0.0)
    image = axes.imshow(values, cmap="cividis", vmin=low, vmax=high, aspect="auto", interpolation="none")
    figure.colorbar(image, label="points", pad=0.01)
    axes.set_facecolor("0.9")
    axes.set_title(MODES[mode], fontsize=9)
    axes.set(xlabel="layer", ylabel="head")
    axes.tick_params(length=0, labelsize=8)
    for axis, number in zip((axes.yaxis, axes.xaxis), values.shape, strict=True):
        axis.set_ticks(_ticks(number), [str(place + 1) for place in _ticks(number)])
    if values.size <= _MOST_NUMBERS:
        _write_numbers(axes, values, (low + high) / 2)
    for layer in findings.layers:
        _frame(axes, layer.important, IMPORTANT, layer.number - 1)
        _frame(axes, layer.redundant, REDUNDANT, layer.number - 1)


def _values(findings: Findings, mode: str) -> NDArray[np.float64]:
    """Points `(heads, layers)`; nan where a layer has fewer heads."""
    values = np.full((max(layer.heads for layer in findings.layers), len(findings.layers)), np.nan)
    for place, layer in enumerate(findings.layers):
        values[: layer.heads, place] = [value - layer.intact for value in getattr(layer, mode)]
    return values


def _ticks(number: int) -> list[int]:
    """All, or of many some."""
    if number <= _MOST_TICKS:
        return list(range(number))
    places = MaxNLocator(_MOST_TICKS, integer=True).tick_values(0, number - 1)
    return [round(place) for place in places if place < number]


def _write_numbers(axes: Axes, values: NDArray[np.float64], middle: float) -> None:
    for (head, layer), value in np.ndenumerate(values):
        if not np.isnan(value):
            colour = "white" if value < middle else "black"
            axes.text(layer, head, f"{value:.2f}", ha="center", va="center", color=colour, fontsize=7)


def _frame(axes: Axes, head: int | None, colour: str, layer: int) -> None:
    """A box in a cell, with a white rim that parts it from any colour."""
    if head is not None:
        box = Rectangle((layer - 0.43, head - 0.4), 0.86, 0.8, fill=False, edgecolor=colour, linewidth=1.6)
        box.set_path_effects([withStroke(linewidth=3.4, foreground="white"), Normal()])
        axes.add_patch(box)
