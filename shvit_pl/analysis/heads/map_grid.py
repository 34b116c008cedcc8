"""What the heads attend to: a grid of attention maps, layer by head, for one query."""

from __future__ import annotations

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from shvit_pl.analysis.heads.captions import caption_lines, write_caption
from shvit_pl.analysis.heads.findings import Findings
from shvit_pl.analysis.heads.heat_maps import IMPORTANT, MARKS, REDUNDANT
from shvit_pl.analysis.heads.results import LayerResult

_COLOURS = "magma"
_CELL = 0.85  # inches
_NOWHERE = "0.8"  # where the query can't look


def draw_maps(findings: Findings) -> Figure:
    """Columns are layers, rows are heads; over the image where one was asked for, else the mean of all."""
    layers, heads = findings.layers, max(layer.heads for layer in findings.layers)
    sentences = [findings.title, *_sentences(findings)]
    width = 0.7 + _CELL * max(len(layers), 6)
    size = (width, 0.4 + 0.15 * len(caption_lines(sentences, width)) + _CELL * heads)
    figure = Figure(figsize=size, facecolor="white")
    figure.set_layout_engine("constrained", w_pad=0.02, h_pad=0.02, wspace=0.02, hspace=0.02)
    cells = figure.subplots(heads, len(layers), squeeze=False)
    for column, layer in enumerate(layers):
        cells[0, column].set_title(f"layer {layer.number}" if column == 0 else str(layer.number), fontsize=8)
        for row in range(heads):
            _cell(cells[row, column], findings, layer, row)
    for row in range(heads):
        cells[row, 0].set_ylabel(f"head {row + 1}", fontsize=8)
    write_caption(figure, sentences)
    return figure


def _cell(axes: Axes, findings: Findings, layer: LayerResult, head: int) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    picture = findings.found.pictures[layer.number - 1]
    if head >= layer.heads or not picture.numel():
        axes.spines[:].set_visible(False)
        return
    if findings.found.image.numel():
        axes.imshow(findings.found.image.mean(0).numpy(), cmap="gray", vmin=0, vmax=1, extent=(0, 1, 1, 0))
    _draw(axes, picture[head] / findings.found.pictured, over=bool(findings.found.image.numel()))
    _mark(axes, findings, layer, head)


def _draw(axes: Axes, picture: Tensor, over: bool) -> None:
    """A map, each in its own range of colours; over an image, the brighter the less of the image is seen."""
    low, high = (float(each) for each in torch.aminmax(picture[~picture.isnan()]))
    alpha = 0.25 + 0.6 * ((picture - low) / (high - low or 1)).nan_to_num(0.0) if over else 1.0
    if not over:
        axes.set_facecolor(_NOWHERE)
    axes.imshow(
        picture.numpy(), cmap=_COLOURS, alpha=alpha if isinstance(alpha, float) else alpha.numpy(), extent=(0, 1, 1, 0),
        interpolation="none",
    )  # fmt: skip


def _mark(axes: Axes, findings: Findings, layer: LayerResult, head: int) -> None:
    """The query, and a frame around the most important and the most redundant head."""
    down, right = findings.found.queries[layer.number - 1]
    axes.plot(right, down, "o", markersize=3.5, markerfacecolor="none", markeredgecolor="white", mew=1.4)
    axes.plot(right, down, "o", markersize=3.5, markerfacecolor="none", markeredgecolor="black", mew=0.6)
    colour = {layer.important: IMPORTANT, layer.redundant: REDUNDANT}.get(head)
    axes.spines[:].set(color=colour or "0.6", linewidth=2.2 if colour else 0.5)


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
