"""The whole of the ablation: layer by head, in both modes."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from shvit_pl.analysis.heads.captions import write_caption
from shvit_pl.analysis.heads.findings import Findings

IMPORTANT, REDUNDANT = "#D55E00", "#0072B2"
_MOST_NUMBERS = 12 * 12  # cells that are written into
_PANELS = {"without": "one head removed", "alone": "one head left"}


def draw_heat_maps(findings: Findings) -> Figure:
    """Points of top-1, layer by head: without each head, and with each one alone; marked are the extreme heads."""
    layers, heads = len(findings.layers), max(layer.heads for layer in findings.layers)
    panels = list(_PANELS) if heads > 1 else ["without"]
    height = 1.5 + len(panels) * (0.9 + 0.3 * heads)
    figure = Figure(figsize=(max(6.0, 2.5 + 0.5 * layers), height), layout="constrained", facecolor="white")
    for axes, mode in zip(figure.subplots(len(panels), 1, squeeze=False)[:, 0], panels, strict=True):
        _panel(figure, axes, findings, mode)
    figure.suptitle(findings.title, fontsize=9)
    marks = "boxes: most important head of a layer orange, most redundant blue" if heads > 1 else ""
    intact = f"change of {findings.score} in points; the intact network has {findings.intact:.2f} %"
    write_caption(figure, [intact, marks, findings.subject.reference.sentence])
    return figure


def _panel(figure: Figure, axes: Axes, findings: Findings, mode: str) -> None:
    values = _values(findings, mode)
    most = float(np.nanmax(np.abs(values))) or 1.0
    image = axes.imshow(values, cmap="RdBu", vmin=-most, vmax=most, aspect="auto", interpolation="none")
    figure.colorbar(image, label="points", pad=0.01)
    axes.set_facecolor("0.93")
    axes.set_title(_PANELS[mode], fontsize=9)
    axes.set(xlabel="layer", ylabel="head")
    heads, layers = values.shape
    axes.set_xticks(_ticks(layers), [str(place + 1) for place in _ticks(layers)])
    axes.set_yticks(_ticks(heads), [str(place + 1) for place in _ticks(heads)])
    axes.tick_params(length=0, labelsize=8)
    if values.size <= _MOST_NUMBERS:
        _write_numbers(axes, values, most)
    for layer in findings.layers:
        mark_head(axes, layer.important, IMPORTANT, layer.number - 1)
        mark_head(axes, layer.redundant, REDUNDANT, layer.number - 1)


def _values(findings: Findings, mode: str) -> NDArray[np.float64]:
    """Points `(heads, layers)`; nan where a layer has fewer heads."""
    values = np.full((max(layer.heads for layer in findings.layers), len(findings.layers)), np.nan)
    for place, layer in enumerate(findings.layers):
        values[: layer.heads, place] = [value - layer.intact for value in getattr(layer, mode)]
    return values


def _ticks(number: int) -> list[int]:
    """All, or of many some."""
    if number <= 24:
        return list(range(number))
    return [round(place) for place in MaxNLocator(24, integer=True).tick_values(0, number - 1) if place < number]


def _write_numbers(axes: Axes, values: NDArray[np.float64], most: float) -> None:
    for (head, layer), value in np.ndenumerate(values):
        if not np.isnan(value):
            colour = "white" if abs(value) > 0.6 * most else "black"
            axes.text(layer, head, f"{value:.2f}", ha="center", va="center", color=colour, fontsize=6)


def mark_head(axes: Axes, head: int | None, colour: str, layer: int) -> None:
    """A box around a cell."""
    if head is not None:
        axes.add_patch(Rectangle((layer - 0.46, head - 0.46), 0.92, 0.92, fill=False, edgecolor=colour, linewidth=1.8))
