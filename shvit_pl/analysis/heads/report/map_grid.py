"""What the heads attend to: a grid of attention maps, layer by head, for one query."""

from __future__ import annotations

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from shvit_pl.analysis.heads.found.findings import Findings
from shvit_pl.analysis.heads.found.results import LayerResult
from shvit_pl.analysis.heads.report.heat_maps import IMPORTANT, MARKS, REDUNDANT
from shvit_pl.display.plots import caption_height, write_caption

_COLOURS = "magma"
_NOWHERE = "0.8"  # where the query can't look
_CELL = 0.85  # inches
_SIDE = 0.9  # of a map, in a cell


def draw_maps(findings: Findings) -> Figure:
    """Columns are layers, rows are heads; over the image where one was asked for, else the mean of all."""
    layers, heads = len(findings.layers), max(layer.heads for layer in findings.layers)
    sentences = [findings.title, *_sentences(findings)]
    width = max(0.7 + _CELL * layers, 6.0)
    height = 0.75 + caption_height(sentences, width) + _CELL * heads
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    for layer in findings.layers:
        if findings.found.pictures[layer.number - 1].numel():
            for head in range(layer.heads):
                _cell(axes, findings, layer, head)
    _label(axes, layers, heads)
    write_caption(figure, sentences)
    return figure


def _label(axes: Axes, layers: int, heads: int) -> None:
    axes.set(xlim=(-0.04, layers), ylim=(heads, -0.04), aspect="equal", xlabel="layer", ylabel="head")
    axes.xaxis.set_label_position("top")
    axes.xaxis.tick_top()
    for axis, number in ((axes.xaxis, layers), (axes.yaxis, heads)):
        axis.set_ticks([place + _SIDE / 2 for place in range(number)], [str(place + 1) for place in range(number)])
    axes.tick_params(length=0, labelsize=8)
    axes.spines[:].set_visible(False)


def _cell(axes: Axes, findings: Findings, layer: LayerResult, head: int) -> None:
    """A map with the query in it, framed where the head is the most important or the most redundant one."""
    found, left = findings.found, layer.number - 1
    picture = found.pictures[left][head] / found.pictured
    extent = (left, left + _SIDE, head + _SIDE, head)
    if found.image.numel():
        axes.imshow(found.image.mean(0).numpy(), cmap="gray", vmin=0, vmax=1, extent=extent)
        axes.imshow(picture.numpy(), cmap=_COLOURS, alpha=_opacity(picture).numpy(), extent=extent)
    else:
        axes.add_patch(Rectangle((left, head), _SIDE, _SIDE, facecolor=_NOWHERE, zorder=-1))
        axes.imshow(picture.numpy(), cmap=_COLOURS, interpolation="none", extent=extent)
    colour = {layer.important: IMPORTANT, layer.redundant: REDUNDANT}.get(head)
    frame = Rectangle((left, head), _SIDE, _SIDE, fill=False, zorder=3)
    frame.set(edgecolor=colour or "0.6", linewidth=2.2 if colour else 0.5)
    axes.add_patch(frame)
    down, right = found.queries[left]
    for rim, thickness in (("white", 1.4), ("black", 0.6)):
        axes.plot(left + right * _SIDE, head + down * _SIDE, "o", ms=3.5, mfc="none", mec=rim, mew=thickness)


def _opacity(picture: Tensor) -> Tensor:
    """Over an image: the more attention, the less of the image is seen."""
    low, high = torch.aminmax(picture[~picture.isnan()])
    return 0.85 * ((picture - low) / (high - low).clamp(min=1e-12)).nan_to_num(0.0)


def _sentences(findings: Findings) -> list[str]:
    """What the maps are of."""
    found, subject = findings.found, findings.subject
    side, (down, right) = found.grid, found.queries[0]
    query = f"row {int(down * side)}, column {int(right * side)} of the first layer's {side}x{side} grid, from 0"
    of = f"the mean of {found.pictured} images" if findings.request.image is None else f"image {findings.request.image}"
    sentences = [f"attention of one query (circle: {query}), {of}; each map in its own colours, bright: much"]
    if getattr(subject.opened.model, "num_prefix_tokens", 0):
        sentences.append("the class token, as a key, is left out")
    if any(picture.isnan().any() for picture in found.pictures):
        sentences.append("without colour: outside of the query's window, where it can't look")
    if windows := [str(number) for number, alone in enumerate(found.windows, 1) if alone]:
        sentences.append(f"layers {', '.join(windows)}: the middle window alone, whose place is not known")
    if missing := [str(number) for number, each in enumerate(found.pictures, 1) if not each.numel()]:
        sentences.append(f"layers {', '.join(missing)}: no map, as the tokens are no square grid")
    if any(layer.important is not None for layer in findings.layers):
        sentences.append(MARKS)
    return sentences
