"""Figures of heads, as the paper's Figures 3 and 4: similarity, changes of top-1, and attention maps."""

from typing import Any

import numpy as np
from matplotlib import colormaps, colors, patches, patheffects, ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from shvit_pl.analysis.heads_findings import Findings, LayerResult
from shvit_pl.plots import BLUE, LEAST_ACCURACY, VERMILION, caption_height, widen, write_caption

_MODES = {"without": "without one head", "alone": "one head alone"}
_IMPORTANT, _REDUNDANT = VERMILION, BLUE


def draw_figures(findings: Findings) -> dict[str, Figure]:
    """Draw all figures that there is data for, by name."""
    figures = dict[str, Figure]()
    if not all(layer.left_out for layer in findings.layers):
        figures = {"change": _draw_change(findings), "heat_maps": _draw_heat_maps(findings)}
    if any(layer.is_compared for layer in findings.layers):
        figures["similarity"] = _draw_similarity(findings)
    if findings.maps.drawn_images and any(maps.picture.numel() for maps in findings.maps.layers):
        figures["maps"] = _draw_maps(findings)
    return figures


def _captioned(findings: Findings, width: float, height: float, *sentences: str) -> Figure:
    """Return an empty figure with a caption, for which it is higher than `height`, in inches."""
    subject = findings.subject
    title = f"{subject.name}, {subject.opened.weights} weights, {subject.data}, {subject.image_size} px"
    caption = [title, *sentences, *findings.left_out]
    figure = Figure(figsize=(width, height + caption_height(caption, width)), layout="constrained")
    write_caption(figure, caption)
    return figure


# ---- curves and bars over the layers

_LEGEND: dict[str, Any] = {"loc": "outside upper center", "ncols": 2, "frameon": False, "fontsize": 8}


def _draw_similarity(findings: Findings) -> Figure:
    """Draw bars with the standard deviation over images; diamonds are the paper's."""
    what = f"mean cosine similarity of each head's map with the others of its layer, {findings.maps.images} images"
    figure, axes = _over_layers(findings, what, findings.paper_note)
    layers = [layer for layer in findings.layers if layer.is_compared]
    numbers, means = [layer.number for layer in layers], [layer.similarity or 0 for layer in layers]
    spreads = [layer.spread or 0 for layer in layers]
    errors = {"ecolor": "black", "elinewidth": 1, "capsize": 2.5}
    label = "here, ± standard deviation over images"
    axes.bar(numbers, means, yerr=spreads, color=BLUE, alpha=0.75, width=0.65, error_kw=errors, label=label)
    if findings.paper:
        paper = [layer.paper.similarity for layer in layers if layer.paper]
        axes.plot(numbers, paper, "D", color="black", markerfacecolor="white", markersize=5, label="the paper")
    axes.set_ylabel("cosine similarity of heads")
    axes.set_ylim(min(0, 1.2 * min(means)), 1.05)  # below 0 where heads are mixed, as in CaiT
    figure.legend(**_LEGEND)
    return figure


def _draw_change(findings: Findings) -> Figure:
    """Draw points of top-1 without one head, and with one alone; the best head is a line, all are dots."""
    shown = [layer for layer in findings.layers if not layer.left_out]
    several = [layer for layer in shown if layer.is_compared]
    lines = "lines: the head with the smallest loss, as in the paper; dots: all heads"
    what = lines if several else "each layer has one head; without it there is no attention"
    note = findings.paper_note if findings.is_paper_score else ""
    figure, axes = _over_layers(findings, what, findings.measured, note)
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set_ylabel(f"change of {findings.subject.reference.short_score} (points)")
    looks = (("without", shown, -0.12, "o", BLUE), ("alone", several, 0.12, "s", VERMILION))
    for mode, layers, shift, marker, color in looks[: 2 if several else 1]:
        for layer in layers:
            changes = getattr(layer, f"changes_{mode}")
            axes.plot([layer.number + shift] * len(changes), changes, ".", color=color, alpha=0.45, ms=6, mew=0)
        numbers = [layer.number for layer in layers]
        best = [getattr(layer, f"change_{mode}") for layer in layers]
        axes.plot(numbers, best, f"{marker}-", color=color, ms=5, lw=1.5, label=_MODES[mode])
        if findings.paper and findings.is_paper_score:
            paper, label = [getattr(layer.paper, mode) for layer in layers], f"{_MODES[mode]}, the paper"
            axes.plot(numbers, paper, f"{marker}--", color=color, mfc="white", ms=4, lw=1, label=label)
    widen(axes, "y", 100 * LEAST_ACCURACY)  # points
    figure.legend(**_LEGEND)
    return figure


def _over_layers(findings: Findings, *sentences: str) -> tuple[Figure, Axes]:
    figure = _captioned(findings, max(6, 2.5 + 0.4 * len(findings.layers)), 4, *sentences)
    axes = figure.subplots()
    axes.set(xlabel="layer", xlim=(0.4, len(findings.layers) + 0.6), axisbelow=True)
    axes.xaxis.set_major_locator(_integers())
    axes.grid(alpha=0.25, axis="y")
    return figure, axes


def _integers() -> ticker.MaxNLocator:
    return ticker.MaxNLocator(nbins=24, integer=True, min_n_ticks=1)


# ---- the whole ablation, layer by head; both count from 1

_MOST_NUMBERS = 12 * 12  # cells that are written into


def _draw_heat_maps(findings: Findings) -> Figure:
    """Draw points of top-1 without each head, and with each one alone; the extreme heads are framed."""
    shown = [layer for layer in findings.layers if not layer.left_out]
    layers, heads = len(findings.layers), max(layer.heads for layer in findings.layers)
    modes = list(_MODES) if heads > 1 else ["without"]
    what = f"change of {findings.subject.reference.short_score} in points, {findings.measured}"
    rim = [patheffects.withStroke(linewidth=3.4, foreground="white")]  # parts a frame from any color
    height = 0.3 + len(modes) * (0.9 + 0.32 * heads)
    figure = _captioned(findings, max(6.0, 2.0 + 0.62 * layers), height, what, _marks_note(findings))
    for axes, mode in zip(figure.subplots(len(modes), 1, squeeze=False)[:, 0], modes, strict=True):
        values = np.full((heads, layers), np.nan)
        for layer in shown:
            values[: layer.heads, layer.number - 1] = getattr(layer, f"changes_{mode}")
        low, high = min(float(np.nanmin(values)), -100 * LEAST_ACCURACY), max(float(np.nanmax(values)), 0.0)
        extent = (0.5, layers + 0.5, heads + 0.5, 0.5)
        image = axes.imshow(values, "cividis", vmin=low, vmax=high, aspect="auto", interpolation="none", extent=extent)
        figure.colorbar(image, label="points", pad=0.01)
        axes.set(xlabel="layer", ylabel="head", facecolor="0.9")
        axes.set_title(_MODES[mode], fontsize=9)
        axes.tick_params(length=0, labelsize=8)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(_integers())
        for layer in findings.layers:
            for head, color in ((layer.important, _IMPORTANT), (layer.redundant, _REDUNDANT)):
                if head is not None:
                    corner = (layer.number - 0.43, head + 0.6)
                    box = patches.Rectangle(corner, 0.86, 0.8, fill=False, ec=color, lw=1.6, path_effects=rim)
                    axes.add_patch(box)
        if values.size <= _MOST_NUMBERS:
            for (head, column), value in np.ndenumerate(values):
                color = "white" if value < (low + high) / 2 else "black"
                text = "" if np.isnan(value) else f"{value:.2f}"
                axes.text(column + 1, head + 1, text, ha="center", va="center", color=color, fontsize=7)
    return figure


def _marks_note(findings: Findings) -> str:
    any_marked = any((layer.important, layer.redundant) != (None, None) for layer in findings.layers)
    return "most important head of a layer framed orange, most redundant blue" if any_marked else ""


# ---- attention of one query, layer by head

_COLORS = colormaps["magma"].with_extremes(bad="0.8")  # gray where the query can't look
_CELL = 0.85  # inches
_SIDE = 0.9  # side of a map, relative to its cell


def _draw_maps(findings: Findings) -> Figure:
    """Draw columns of layers and rows of heads; over the image where one was asked for, else the mean of all."""
    layers, heads = len(findings.layers), max(layer.heads for layer in findings.layers)
    width, height = max(0.7 + _CELL * layers, 6.0), 0.75 + _CELL * heads
    figure = _captioned(findings, width, height, *_map_sentences(findings), _marks_note(findings))
    axes = figure.subplots()
    for layer, maps in zip(findings.layers, findings.maps.layers, strict=True):
        for head in range(layer.heads if maps.picture.numel() else 0):
            _draw_map(axes, findings, layer, head)
    axes.set(xlim=(0.5, layers + 0.5), ylim=(heads + 0.5, 0.5), aspect="equal", xlabel="layer", ylabel="head")
    axes.set(xticks=range(1, layers + 1), yticks=range(1, heads + 1))
    axes.xaxis.set_label_position("top")
    axes.xaxis.tick_top()
    axes.tick_params(length=0, labelsize=8)
    axes.spines[:].set_visible(False)
    return figure


def _draw_map(axes: Axes, findings: Findings, layer: LayerResult, head: int) -> None:
    """Draw a map with the query in it, framed where the head is the most important or the most redundant one."""
    maps = findings.maps
    own = maps.layers[layer.number - 1]
    picture = np.ma.masked_invalid(own.picture[head].numpy() / maps.drawn_images)
    left, top = layer.number - _SIDE / 2, head + 1 - _SIDE / 2
    extent, opacity = (left, left + _SIDE, top + _SIDE, top), None
    low = float(picture.min())
    scale = colors.Normalize(low, max(float(picture.max()), low + float(picture.mean())))  # else noise looks like a map
    if maps.drawn_image is not None:
        axes.imshow(maps.drawn_image.mean(0).numpy(), cmap="gray", vmin=0, vmax=1, extent=extent)
        opacity = 0.85 * scale(picture).filled(0.0)  # attention hides the image
    axes.imshow(picture, cmap=_COLORS, norm=scale, alpha=opacity, interpolation="none", extent=extent)
    color = {layer.important: _IMPORTANT, layer.redundant: _REDUNDANT}.get(head)
    edge, width = color or "0.6", 2.2 if color else 0.5
    axes.add_patch(patches.Rectangle((left, top), _SIDE, _SIDE, fill=False, zorder=3, ec=edge, lw=width))
    down, right = own.query
    rim = [patheffects.withStroke(linewidth=1.4, foreground="white")]
    axes.plot(left + right * _SIDE, top + down * _SIDE, "o", ms=3.5, mfc="none", mec="black", mew=0.6, path_effects=rim)


def _map_sentences(findings: Findings) -> list[str]:
    """Return what the maps are of."""
    maps, image = findings.maps, findings.subject.options.image
    side = maps.first_grid.side if maps.first_grid else 0
    row, column = (int(place * side) for place in maps.layers[0].query)
    query = f"row {row}, column {column} of the first layer's {side}x{side} grid, from 0"
    of = f"the mean of {maps.drawn_images} images" if image is None else f"image {image}"
    windows = [str(number) for number, layer in enumerate(maps.layers, 1) if layer.middle_window]
    missing = [str(number) for number, layer in enumerate(maps.layers, 1) if not layer.picture.numel()]
    notes = {
        f"attention of one query (circle: {query}), {of}": True,
        "each map has its own color scale, over at least its mean; bright is high": True,
        "the class token is excluded from the keys": findings.subject.prefix_tokens,
        "no color: outside the query's window": any(layer.picture.isnan().any() for layer in maps.layers),
        f"layers {', '.join(windows)}: only the middle window, whose position is unknown": windows,
        f"layers {', '.join(missing)}: no map, as the tokens form no square grid": missing,
    }
    return [note for note, applies in notes.items() if applies]
