"""The figures of a study, as the paper's Figures 3 and 4 are: similarity, changes of top-1, and attention maps."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from shvit_pl.analysis.heads.captions import write_caption
from shvit_pl.analysis.heads.findings import Findings
from shvit_pl.analysis.heads.heat_maps import draw_heat_maps
from shvit_pl.analysis.heads.map_grid import draw_maps

BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "0.55"  # told apart by colour-blind readers too
_PAPER = {"linestyle": "none", "markerfacecolor": "white", "markersize": 5, "zorder": 3}


def draw_figures(findings: Findings) -> dict[str, Figure]:
    """All figures that there is data for, by name."""
    figures = {"similarity": draw_similarity(findings)} if any(each.heads > 1 for each in findings.layers) else {}
    figures |= {"change": draw_change(findings), "heat_maps": draw_heat_maps(findings)}
    return figures | ({"maps": draw_maps(findings)} if any(each.numel() for each in findings.found.pictures) else {})


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
        width=0.65,
        error_kw={"ecolor": "0.25", "elinewidth": 1, "capsize": 2.5},
        label="here (bar: sd over images)",
    )
    if findings.paper:
        theirs = [findings.paper.layers[number - 1].similarity for number in numbers]
        axes.plot(numbers, theirs, "D", color="black", label="the paper's", **_PAPER)
    axes.set_ylabel("cosine similarity of heads (%)")
    axes.set_ylim(0, 105)
    what = f"mean cosine similarity of a head's attention map with the others of its layer, {len(layers[0].similarities)} images"
    _finish(figure, findings, what)
    return figure


def draw_change(findings: Findings) -> Figure:
    """Points of top-1 over the layers: without one head, and with one alone; the best head is a line, all are dots."""
    figure, axes = _over_layers(findings)
    axes.axhline(0, color="black", linewidth=0.8)
    _draw_mode(axes, findings, "without", BLUE, "o")
    if any(layer.heads > 1 for layer in findings.layers):
        _draw_mode(axes, findings, "alone", ORANGE, "s")
    axes.set_ylabel(f"change of {_short(findings.score)} (points)")
    best = "lines: the head that costs least, as in the paper; dots: all heads"
    _finish(figure, findings, f"{best}. {findings.score} of the intact network: {findings.intact:.2f} %")
    return figure


def _draw_mode(axes: Axes, findings: Findings, mode: str, colour: str, marker: str) -> None:
    """One head left out (`without`), or all but one (`alone`)."""
    layers = [layer for layer in findings.layers if mode == "without" or layer.heads > 1]
    label = {"without": "one head removed", "alone": "one head left"}[mode]
    numbers = [layer.number for layer in layers]
    best = [getattr(layer, f"change_{mode}") for layer in layers]
    shift = -0.09 if mode == "without" else 0.09
    for layer in layers:
        every = [value - layer.intact for value in getattr(layer, mode)]
        axes.plot([layer.number + shift] * len(every), every, ".", color=colour, alpha=0.35, markersize=4, mew=0)
    axes.plot(numbers, best, f"{marker}-", color=colour, markersize=5, linewidth=1.5, label=label)
    if findings.paper:
        theirs = [getattr(findings.paper.layers[number - 1], mode) for number in numbers]
        label += ", the paper's"
        axes.plot(numbers, theirs, f"{marker}--", color=colour, mfc="white", markersize=4, linewidth=1, label=label)


def _over_layers(findings: Findings) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(max(5.5, 2.5 + 0.4 * len(findings.layers)), 4), layout="constrained", facecolor="white")
    axes = figure.subplots()
    axes.set_xlabel("layer")
    axes.set_xlim(0.4, len(findings.layers) + 0.6)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=24, integer=True, min_n_ticks=1))
    axes.grid(alpha=0.25, axis="y")
    axes.set_axisbelow(True)
    return figure, axes


def _finish(figure: Figure, findings: Findings, caption: str) -> None:
    figure.suptitle(findings.title, fontsize=9)
    figure.legend(loc="outside upper center", ncols=2, frameon=False, fontsize=8)
    write_caption(figure, [caption, findings.subject.reference.sentence, findings.beside_the_paper])


def _short(score: str) -> str:
    return score.partition(" with")[0]
