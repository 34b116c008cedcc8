"""The report's figures as PNG, for a paper or a card."""

from __future__ import annotations

from textwrap import wrap
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from shvit_pl.display.plots import COLORS, QUIET, as_png, color, is_dashed
from shvit_pl.sweep.report.effects import Effects, estimates
from shvit_pl.sweep.report.findings import Findings
from shvit_pl.sweep.report.histories import Curve, best
from shvit_pl.sweep.report.paired import Estimate
from shvit_pl.sweep.report.plane import Dot, Plane
from shvit_pl.sweep.report.quantities import Quantity

_MOST_LABELLED = 16
_WIDE = 72  # characters below an axis


def draw_figures(found: Findings) -> dict[str, bytes]:
    """PNGs by file name, of what there is to draw."""
    of, lines, title = found.primary, found.curves, found.names_title
    figures: dict[str, Figure] = {}
    if found.plane.dots:
        figures["accuracy_over_speed.png"] = draw_plane(found.plane, title)
    if lines:
        figures["curves.png"] = draw_curves(best(lines, of), of, title, len(lines))
    if any(one.mean is not None for _, one in estimates(found.effects, of)):
        figures["effects.png"] = draw_effects(found.effects, of)
    return {name: as_png(figure, dpi=120) for name, figure in figures.items()}


def draw_plane(plane: Plane, title: str = "") -> Figure:
    """A dot per cell with the seeds' standard deviation, and the Pareto front as steps."""
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    across, up, front = plane.across.quantity, plane.up.quantity, plane.front
    x, y = across.scale, up.scale
    where: Literal["pre", "post"] = "post" if across.direction == "min" else "pre"
    axes.step(
        [one.x.mean * x for one in front], [one.y.mean * y for one in front], where=where, color=QUIET, linewidth=1
    )
    labelled = list(plane.dots) if len(plane.dots) <= _MOST_LABELLED else front
    for one in plane.dots:
        _draw_dot(axes, one, x, y, one in labelled)
    notes = [line for text in (plane.across.conditions, plane.left_out) for line in wrap(text, _WIDE)]
    axes.set(xlabel="\n".join([across.header, *notes]), ylabel=up.header)
    axes.grid(alpha=0.3)
    handles = [Line2D([], [], marker="o", linestyle="", color=color(one.row.number)) for one in labelled]
    names = [one.row.label for one in labelled]
    handles.append(Line2D([], [], marker="o", color=QUIET, markerfacecolor="none", mec="black", linewidth=1))
    figure.legend(
        handles, [*names, "Pareto front of the means"], loc="outside right upper", frameon=False, fontsize=8,
        title=title, title_fontsize=8, alignment="left",
    )  # fmt: skip
    return figure


def draw_curves(lines: list[Curve], of: Quantity, title: str, of_all: int) -> Figure:
    """Mean over seeds, and a band from the least to the largest."""
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    for one in lines:
        own, style = color(one.row.number), "--" if is_dashed(one.row.number) else "-"
        axes.plot(one.epochs, one.mean, f"o{style}", color=own, label=one.row.label, linewidth=1.5, markersize=4)
        axes.fill_between(one.epochs, one.low, one.high, color=own, alpha=0.15, linewidth=0)
    axes.set(xlabel="epoch", ylabel=of.header)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.grid(alpha=0.3)
    title = f"the best {len(lines)} of {of_all}\n{title}" if len(lines) < of_all else title
    figure.legend(loc="outside right upper", frameon=False, fontsize=8, title=title, title_fontsize=8, alignment="left")
    return figure


def draw_effects(found: Effects, of: Quantity) -> Figure:
    """Main effects and interactions with their intervals; what is beyond the noise is filled."""
    shown = estimates(found, of)
    figure = Figure(figsize=(8, 0.45 * len(shown) + 1), layout="constrained")
    axes = figure.subplots()
    axes.axvline(0, color=QUIET, linewidth=1)
    for height, (_, one) in enumerate(shown):
        if one.mean is not None:
            _draw_estimate(axes, one, height)
    axes.set_yticks(range(len(shown)), [name for name, _ in shown])
    axes.invert_yaxis()
    axes.set_xlabel(f"difference in {of.name} ({of.step})" if of.step else f"difference in {of.name}")
    axes.grid(alpha=0.3, axis="x")
    figure.legend(
        [_estimate_marker(seen) for seen in (True, False)], ["beyond the noise", "not beyond the noise"],
        loc="outside upper right", frameon=False, fontsize=8, ncols=2,
    )  # fmt: skip
    return figure


def _draw_dot(axes: Axes, one: Dot, x: float, y: float, labelled: bool) -> None:
    left, top, own = one.x.mean * x, one.y.mean * y, color(one.row.number)
    error = one.y.sd * y if one.y.sd else None
    axes.errorbar(left, top, yerr=error, color=own, capsize=3, linewidth=1)
    ring = "black" if one.on_front else own
    axes.plot(left, top, "o", color=own, markeredgecolor=ring, markersize=11 if labelled else 5)
    if labelled:
        axes.annotate(
            str(one.row.number), (left, top), ha="center", va="center_baseline",
            color="white", fontsize=7, weight="bold",
        )  # fmt: skip


def _draw_estimate(axes: Axes, one: Estimate, height: int) -> None:
    marker = _estimate_marker(one.is_seen)
    if one.low is not None and one.high is not None:
        axes.plot([one.low, one.high], [height, height], color=marker.get_color(), linewidth=1.5)
    axes.plot([one.mean or 0.0], [height], "o", color=marker.get_color(), markerfacecolor=marker.get_markerfacecolor())


def _estimate_marker(seen: bool) -> Line2D:
    own = COLORS[0] if seen else QUIET
    return Line2D([], [], marker="o", color=own, markerfacecolor=own if seen else "white")
