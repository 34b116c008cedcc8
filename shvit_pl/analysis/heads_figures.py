"""The figures of a study, as the paper's Figures 3 and 4 are: similarity, changes of top-1, and attention maps."""

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import Normal, withStroke
from matplotlib.ticker import MaxNLocator

from shvit_pl.analysis.heads_findings import Findings, LayerResult
from shvit_pl.display.plots import BLUE, VERMILION, caption_height, write_caption

_MODES = {"without": "without one head", "alone": "one head alone"}
_IMPORTANT, _REDUNDANT = VERMILION, BLUE
_MARKS = "most important head of a layer framed orange, most redundant blue"


def draw_figures(findings: Findings) -> dict[str, Figure]:
    """Draw all figures that there is data for, by name."""
    figures = {"change": _draw_change(findings), "heat_maps": _draw_heat_maps(findings)}
    if any(layer.heads > 1 for layer in findings.layers):
        figures["similarity"] = _draw_similarity(findings)
    if findings.maps.drawn_images and any(maps.picture.numel() for maps in findings.maps.layers):
        figures["maps"] = _draw_maps(findings)
    return figures


# ---- curves and bars over the layers


def _draw_similarity(findings: Findings) -> Figure:
    """Draw bars with the standard deviation over images; diamonds are the paper's."""
    figure, axes = _over_layers(findings)
    layers = [layer for layer in findings.layers if layer.heads > 1]
    numbers, means = [layer.number for layer in layers], [layer.similarity or 0 for layer in layers]
    spreads = [layer.spread or 0 for layer in layers]
    errors = {"ecolor": "black", "elinewidth": 1, "capsize": 2.5}
    label = "here, ± standard deviation over images"
    axes.bar(numbers, means, yerr=spreads, color=BLUE, alpha=0.75, width=0.65, error_kw=errors, label=label)
    if findings.paper:
        paper = [layer.paper.similarity for layer in layers if layer.paper]
        axes.plot(numbers, paper, "D", color="black", markerfacecolor="white", markersize=5, label="the paper")
    axes.set_ylabel("cosine similarity of heads (%)")
    axes.set_ylim(min(0, 1.2 * min(means)), 105)  # below 0 where heads are mixed, as in CaiT
    images = findings.maps.images
    what = f"mean cosine similarity of each head's map with the others of its layer, {images} images"
    _finish(figure, [findings.title, what, findings.paper_note])
    return figure


def _draw_change(findings: Findings) -> Figure:
    """Draw points of top-1 without one head, and with one alone; the best head is a line, all are dots."""
    figure, axes = _over_layers(findings)
    axes.axhline(0, color="black", linewidth=0.8)
    _draw_mode(axes, findings, "without", BLUE, "o")
    best = "a layer without its only head has no attention"
    if any(layer.heads > 1 for layer in findings.layers):
        _draw_mode(axes, findings, "alone", VERMILION, "s")
        best = "lines: the head that costs least, as in the paper; dots: all heads"
    axes.set_ylabel(f"change of {findings.subject.reference.short_score} (points)")
    note = findings.paper_note if findings.is_paper_score else ""
    _finish(figure, [findings.title, best, findings.measured, note])
    return figure


def _draw_mode(axes: Axes, findings: Findings, mode: str, color: str, marker: str) -> None:
    """Draw one of `_MODES`."""
    layers = [layer for layer in findings.layers if mode == "without" or layer.heads > 1]
    label = _MODES[mode]
    numbers = [layer.number for layer in layers]
    best = [getattr(layer, f"change_{mode}") for layer in layers]
    shift = -0.12 if mode == "without" else 0.12
    for layer in layers:
        changes = [value - layer.intact for value in getattr(layer, mode)]
        axes.plot([layer.number + shift] * len(changes), changes, ".", color=color, alpha=0.45, markersize=6, mew=0)
    axes.plot(numbers, best, f"{marker}-", color=color, markersize=5, linewidth=1.5, label=label)
    if findings.paper and findings.is_paper_score:
        paper = [getattr(layer.paper, mode) for layer in layers]
        label += ", the paper"
        axes.plot(numbers, paper, f"{marker}--", color=color, mfc="white", markersize=4, linewidth=1, label=label)


def _over_layers(findings: Findings) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(max(6, 2.5 + 0.4 * len(findings.layers)), 4.4), layout="constrained")
    axes = figure.subplots()
    axes.set(xlabel="layer", xlim=(0.4, len(findings.layers) + 0.6), axisbelow=True)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=24, integer=True, min_n_ticks=1))
    axes.grid(alpha=0.25, axis="y")
    return figure, axes


def _finish(figure: Figure, sentences: list[str]) -> None:
    figure.legend(loc="outside upper center", ncols=2, frameon=False, fontsize=8)
    write_caption(figure, sentences)


# ---- the whole ablation, layer by head

_MOST_NUMBERS = 12 * 12  # cells that are written into
_MOST_TICKS = 24


def _draw_heat_maps(findings: Findings) -> Figure:
    """Draw points of top-1 without each head, and with each one alone; the extreme heads are framed."""
    layers, heads = len(findings.layers), max(layer.heads for layer in findings.layers)
    panels = list(_MODES) if heads > 1 else ["without"]
    what = f"change of {findings.subject.reference.short_score} in points, {findings.measured}"
    sentences = [findings.title, what, *_marks_note(findings)]
    width = max(6.0, 2.0 + 0.62 * layers)
    height = 0.3 + caption_height(sentences, width) + len(panels) * (0.9 + 0.32 * heads)
    figure = Figure(figsize=(width, height), layout="constrained")
    for axes, mode in zip(figure.subplots(len(panels), 1, squeeze=False)[:, 0], panels, strict=True):
        _draw_panel(figure, axes, findings, mode)
    write_caption(figure, sentences)
    return figure


def _marks_note(findings: Findings) -> list[str]:
    return [_MARKS] if any(layer.important is not None for layer in findings.layers) else []


def _draw_panel(figure: Figure, axes: Axes, findings: Findings, mode: str) -> None:
    values = np.full((max(layer.heads for layer in findings.layers), len(findings.layers)), np.nan)  # (heads, layers)
    for place, layer in enumerate(findings.layers):
        values[: layer.heads, place] = [value - layer.intact for value in getattr(layer, mode)]
    low, high = min(float(np.nanmin(values)), -0.01), max(float(np.nanmax(values)), 0.0)
    image = axes.imshow(values, cmap="cividis", vmin=low, vmax=high, aspect="auto", interpolation="none")
    figure.colorbar(image, label="points", pad=0.01)
    axes.set_facecolor("0.9")
    axes.set_title(_MODES[mode], fontsize=9)
    axes.set(xlabel="layer", ylabel="head")
    axes.tick_params(length=0, labelsize=8)
    for axis, number in zip((axes.yaxis, axes.xaxis), values.shape, strict=True):
        places = range(0, number, -(-number // _MOST_TICKS))
        axis.set_ticks(places, [str(place + 1) for place in places])
    if values.size <= _MOST_NUMBERS:
        for (head, column), value in np.ndenumerate(values):
            if not np.isnan(value):
                color = "white" if value < (low + high) / 2 else "black"
                axes.text(column, head, f"{value:.2f}", ha="center", va="center", color=color, fontsize=7)
    for layer in findings.layers:
        _frame(axes, layer.important, _IMPORTANT, layer.number - 1)
        _frame(axes, layer.redundant, _REDUNDANT, layer.number - 1)


def _frame(axes: Axes, head: int | None, color: str, layer: int) -> None:
    """Draw a box in a cell, with a white rim that parts it from any color."""
    if head is not None:
        box = Rectangle((layer - 0.43, head - 0.4), 0.86, 0.8, fill=False, edgecolor=color, linewidth=1.6)
        box.set_path_effects([withStroke(linewidth=3.4, foreground="white"), Normal()])
        axes.add_patch(box)


# ---- attention of one query, layer by head

_NOWHERE = "0.8"  # where the query can't look
_CELL = 0.85  # inches
_SIDE = 0.9  # of a map, in a cell


def _draw_maps(findings: Findings) -> Figure:
    """Draw columns of layers and rows of heads; over the image where one was asked for, else the mean of all."""
    layers, heads = len(findings.layers), max(layer.heads for layer in findings.layers)
    sentences = [findings.title, *_map_sentences(findings)]
    width = max(0.7 + _CELL * layers, 6.0)
    height = 0.75 + caption_height(sentences, width) + _CELL * heads
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    for layer, maps in zip(findings.layers, findings.maps.layers, strict=True):
        for head in range(layer.heads if maps.picture.numel() else 0):
            _draw_map(axes, findings, layer, head)
    axes.set(xlim=(-0.04, layers), ylim=(heads, -0.04), aspect="equal", xlabel="layer", ylabel="head")
    axes.xaxis.set_label_position("top")
    axes.xaxis.tick_top()
    for axis, number in ((axes.xaxis, layers), (axes.yaxis, heads)):
        axis.set_ticks([place + _SIDE / 2 for place in range(number)], [str(place + 1) for place in range(number)])
    axes.tick_params(length=0, labelsize=8)
    axes.spines[:].set_visible(False)
    write_caption(figure, sentences)
    return figure


def _draw_map(axes: Axes, findings: Findings, layer: LayerResult, head: int) -> None:
    """Draw a map with the query in it, framed where the head is the most important or the most redundant one."""
    maps, left = findings.maps, layer.number - 1
    picture = maps.layers[left].picture[head] / maps.drawn_images
    extent = (left, left + _SIDE, head + _SIDE, head)
    if maps.drawn_image is not None:
        low, high = torch.aminmax(picture[~picture.isnan()])
        opacity = 0.85 * ((picture - low) / (high - low).clamp(min=1e-12)).nan_to_num(0.0)  # attention hides the image
        axes.imshow(maps.drawn_image.mean(0).numpy(), cmap="gray", vmin=0, vmax=1, extent=extent)
        axes.imshow(picture.numpy(), cmap="magma", alpha=opacity.numpy(), extent=extent)
    else:
        axes.add_patch(Rectangle((left, head), _SIDE, _SIDE, facecolor=_NOWHERE, zorder=-1))
        axes.imshow(picture.numpy(), cmap="magma", interpolation="none", extent=extent)
    color = {layer.important: _IMPORTANT, layer.redundant: _REDUNDANT}.get(head)
    edge, width = color or "0.6", 2.2 if color else 0.5
    axes.add_patch(Rectangle((left, head), _SIDE, _SIDE, fill=False, zorder=3, edgecolor=edge, linewidth=width))
    down, right = maps.layers[left].query
    for rim, thickness in (("white", 1.4), ("black", 0.6)):
        axes.plot(left + right * _SIDE, head + down * _SIDE, "o", ms=3.5, mfc="none", mec=rim, mew=thickness)


def _map_sentences(findings: Findings) -> list[str]:
    """Return what the maps are of."""
    maps, subject = findings.maps, findings.subject
    side, (down, right) = maps.first_grid.side if maps.first_grid else 0, maps.layers[0].query
    query = f"row {int(down * side)}, column {int(right * side)} of the first layer's {side}x{side} grid, from 0"
    image = subject.options.image
    of = f"the mean of {maps.drawn_images} images" if image is None else f"image {image}"
    sentences = [f"attention of one query (circle: {query}), {of}; each map has its own color scale, bright is high"]
    if subject.prefix_tokens:
        sentences.append("the class token is excluded from the keys")
    if any(layer.picture.isnan().any() for layer in maps.layers):
        sentences.append("no color: outside the query's window")
    if windows := [str(number) for number, layer in enumerate(maps.layers, 1) if layer.middle_window]:
        sentences.append(f"layers {', '.join(windows)}: only the middle window, whose position is unknown")
    if missing := [str(number) for number, layer in enumerate(maps.layers, 1) if not layer.picture.numel()]:
        sentences.append(f"layers {', '.join(missing)}: no map, as the tokens form no square grid")
    return [*sentences, *_marks_note(findings)]
