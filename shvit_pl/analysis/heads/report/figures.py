"""The figures of a study, as the paper's Figures 3 and 4 are: similarity, changes of top-1, and attention maps."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from shvit_pl.analysis.heads.found.findings import Findings
from shvit_pl.analysis.heads.found.results import MODES
from shvit_pl.analysis.heads.report.heat_maps import draw_heat_maps
from shvit_pl.analysis.heads.report.map_grid import draw_maps
from shvit_pl.display.plots import BLUE, VERMILION, write_caption


def draw_figures(findings: Findings) -> dict[str, Figure]:
    """All figures that there is data for, by name."""
    figures = {"change": draw_change(findings), "heat_maps": draw_heat_maps(findings)}
    if any(layer.heads > 1 for layer in findings.layers):
        figures["similarity"] = draw_similarity(findings)
    if findings.found.pictured and any(picture.numel() for picture in findings.found.pictures):
        figures["maps"] = draw_maps(findings)
    return figures


def draw_similarity(findings: Findings) -> Figure:
    """Bars over the layers, with the standard deviation over images; diamonds are the paper's."""
    figure, axes = _over_layers(findings)
    layers = [layer for layer in findings.layers if layer.similarity is not None]
    numbers = [layer.number for layer in layers]
    axes.bar(
        numbers,
        [layer.similarity or 0 for layer in layers],
        yerr=[layer.spread or 0 for layer in layers],
        color=BLUE,
        alpha=0.75,
        width=0.65,
        error_kw={"ecolor": "black", "elinewidth": 1, "capsize": 2.5},
        label="here, ± standard deviation over images",
    )
    if findings.paper:
        theirs = [findings.paper.layers[number - 1].similarity for number in numbers]
        axes.plot(numbers, theirs, "D", color="black", markerfacecolor="white", markersize=5, label="the paper")
    axes.set_ylabel("cosine similarity of heads (%)")
    lowest = min(layer.similarity or 0 for layer in layers)  # below 0 where heads are mixed, as in CaiT
    axes.set_ylim(min(0, 1.2 * lowest), 105)
    what = f"mean cosine similarity of each head's map with the others of its layer, {findings.compared} images"
    _finish(figure, axes, [findings.title, what, findings.beside_the_paper])
    return figure


def draw_change(findings: Findings) -> Figure:
    """Points of top-1 over the layers: without one head, and with one alone; the best head is a line, all are dots."""
    figure, axes = _over_layers(findings)
    axes.axhline(0, color="black", linewidth=0.8)
    _draw_mode(axes, findings, "without", BLUE, "o")
    best = "a layer without its only head has no attention"
    if any(layer.heads > 1 for layer in findings.layers):
        _draw_mode(axes, findings, "alone", VERMILION, "s")
        best = "lines: the head that costs least, as in the paper; dots: all heads"
    axes.set_ylabel(f"change of {findings.brief} (points)")
    beside = findings.beside_the_paper if findings.same_score else ""
    _finish(figure, axes, [findings.title, best, findings.measured, beside])
    return figure


def _draw_mode(axes: Axes, findings: Findings, mode: str, colour: str, marker: str) -> None:
    """One of `MODES`."""
    layers = [layer for layer in findings.layers if mode == "without" or layer.heads > 1]
    label = MODES[mode]
    numbers = [layer.number for layer in layers]
    best = [getattr(layer, f"change_{mode}") for layer in layers]
    shift = -0.12 if mode == "without" else 0.12
    for layer in layers:
        every = [value - layer.intact for value in getattr(layer, mode)]
        axes.plot([layer.number + shift] * len(every), every, ".", color=colour, alpha=0.45, markersize=6, mew=0)
    axes.plot(numbers, best, f"{marker}-", color=colour, markersize=5, linewidth=1.5, label=label)
    if findings.paper and findings.same_score:
        theirs = [getattr(findings.paper.layers[number - 1], mode) for number in numbers]
        label += ", the paper"
        axes.plot(numbers, theirs, f"{marker}--", color=colour, mfc="white", markersize=4, linewidth=1, label=label)


def _over_layers(findings: Findings) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(max(6, 2.5 + 0.4 * len(findings.layers)), 4.4), layout="constrained")
    axes = figure.subplots()
    axes.set_xlabel("layer")
    axes.set_xlim(0.4, len(findings.layers) + 0.6)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=24, integer=True, min_n_ticks=1))
    axes.grid(alpha=0.25, axis="y")
    axes.set_axisbelow(True)
    return figure, axes


def _finish(figure: Figure, axes: Axes, sentences: list[str]) -> None:
    figure.legend(loc="outside upper center", ncols=2, frameon=False, fontsize=8)
    write_caption(figure, sentences)
