"""Stacked bars of the time, beside the paper's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from shvit_pl.analysis.running import described
from shvit_pl.analysis.runtime.kinds import ALL_BUT_PRODUCTS, KINDS
from shvit_pl.analysis.runtime.rows import Measured
from shvit_pl.display.plots import BLUE, GREEN, GREY, ORANGE, PURPLE, YELLOW

# the paper's bars have the same, hatched
_COLOURS = {
    "matrix product": BLUE,
    "elementwise": ORANGE,
    "normalisation": GREEN,
    "copy": PURPLE,
    "reshape": YELLOW,
    "other": GREY,
}
_DARK = ("matrix product", "normalisation")
_HEIGHT = 0.36
_LEAST_LABELLED = 3.5  # percent: narrower segments have no room for their number
_LEAST_NAMED = 0.05  # percent of other work from which the legend has it
_PAPER: dict[str, Any] = {"hatch": "////", "alpha": 0.55}
_SPREAD: dict[str, Any] = {"color": "black", "linewidth": 1, "marker": "|", "markersize": 5}
_SPREAD_AT = 0.13  # below the numbers


def draw(every: Sequence[Measured], conditions: Mapping[str, Any]) -> Figure:
    """The figure: two bars for each network, or one where the paper has none.

    Args:
        every: What was found.
        conditions: Under which it was measured.
    """
    figure = Figure(figsize=(8.6, 1.7 + 0.95 * len(every)), layout="constrained")
    axes = figure.subplots()
    for row, each in enumerate(every):
        _draw_network(axes, row, each)
    axes.set_yticks(range(len(every)), [_label(each) for each in every], fontsize=8)
    axes.set_ylim(len(every) - 0.4, -0.6)
    axes.set_xlim(0, 100)
    axes.set_xlabel(f"% of the time of all operators in {_scope(conditions)}", fontsize=8)
    axes.tick_params(axis="x", labelsize=8)
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
    _legend(figure, axes, every)
    figure.suptitle(_title(conditions), fontsize=9)
    return figure


def _draw_network(axes: Axes, row: int, each: Measured) -> None:
    at = row if each.paper is None else row - _HEIGHT / 2 - 0.02
    _bar(axes, at, each.percent, {})
    low, high = each.shares.quartiles[ALL_BUT_PRODUCTS]
    axes.plot([100 - high, 100 - low], [at + _SPREAD_AT] * 2, **_SPREAD)
    text = f"memory-bound\n{each.percent[ALL_BUT_PRODUCTS]:.1f} %"
    if each.paper is not None:
        at_paper = row + _HEIGHT / 2 + 0.02
        _bar(axes, at_paper, each.paper_percent, _PAPER)
        text += f", paper {each.paper_percent[ALL_BUT_PRODUCTS]:.1f} %\n({each.difference[ALL_BUT_PRODUCTS]:+z.1f})"
    axes.annotate(text, (100, row), xytext=(6, 0), textcoords="offset points", fontsize=7.5, va="center")


def _bar(axes: Axes, at: float, percent: Mapping[str, float], how: Mapping[str, Any]) -> None:
    left = 0.0
    for kind in KINDS:
        width = percent.get(kind, 0.0)
        axes.barh(at, width, _HEIGHT, left, color=_COLOURS[kind], edgecolor="white", linewidth=0.6, **how)
        if width >= _LEAST_LABELLED:
            colour = "white" if kind in _DARK and not how else "black"
            axes.text(left + width / 2, at, f"{width:.1f}", ha="center", va="center", fontsize=7, color=colour)
        left += width


def _legend(figure: Figure, axes: Axes, every: Sequence[Measured]) -> None:
    other = any(each.percent["other"] >= _LEAST_NAMED for each in every)
    shown = [kind for kind in KINDS if kind != "other" or other]
    handles: list[Any] = [axes.barh(0, 0, color=_COLOURS[kind], label=kind) for kind in shown]
    if any(each.paper for each in every):
        handles.append(axes.barh(0, 0, color="0.6", edgecolor="white", label="hatched: the paper's Fig. 7", **_PAPER))
    handles += axes.plot([], [], label="middle half of the passes", **_SPREAD)
    figure.legend(handles=handles, loc="outside lower center", ncols=4, fontsize=7.5, frameon=False)


def _label(each: Measured) -> str:
    name = each.name.removeprefix("timm:")
    return name if each.paper is None else f"{name}\n({each.paper.attention})"


def _scope(conditions: Mapping[str, Any]) -> str:
    return "the attention part of the blocks" if conditions["scope"] == "attention" else "the network"


def _title(conditions: Mapping[str, Any]) -> str:
    return f"{described(conditions)}; fused attention switched off"
