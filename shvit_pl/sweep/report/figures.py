"""The report's figures: as PNG for a paper or a card, and as SVG for the page.

In the page, the groups `point-N` and `curve-N` belong to the cell with that number, and the colors of text and of the
Pareto front's rings follow the page, light or dark (page.css); names of the cells are in the page's own list.
"""

from __future__ import annotations

from collections.abc import Iterable
from io import StringIO
from textwrap import wrap
from typing import Any, Literal

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from shvit_pl.display.plots import COLORS, QUIET, as_png, color, is_dashed
from shvit_pl.sweep.report.comparisons import Effects
from shvit_pl.sweep.report.findings import Curve, Dot, Findings, Plane, best_curves
from shvit_pl.sweep.report.quantities import Quantity
from shvit_pl.sweep.report.statistics import Estimate

_MOST_LABELED = 16  # dots with a name in the legend of a PNG
_MOST_NUMBERED = 40  # dots with a number in the page
_NOTE_WIDTH = 72  # characters below an axis
_WIDTHS = {"wide": 9.5, "narrow": 4.2}  # inches, in the page: a desktop and a phone
_STYLE: Any = {"text.parse_math": False}  # a name may have two dollar signs
_PAGE_STYLE: Any = _STYLE | {
    "svg.fonttype": "none", "axes.edgecolor": QUIET, "xtick.color": QUIET, "ytick.color": QUIET,
    "xtick.labelcolor": "black", "ytick.labelcolor": "black", "grid.color": QUIET,
}  # fmt: skip
_LEGEND: dict[str, Any] = {"frameon": False, "fontsize": 8, "title_fontsize": 8, "alignment": "left"}


def draw_pngs(findings: Findings) -> dict[str, bytes]:
    """Return PNGs by file name, of what there is to draw."""
    table, plane, curves = findings.table, findings.plane, findings.curves
    title, figures = table.names_title, dict[str, Figure]()
    with rc_context(_STYLE):
        if plane.dots:
            labeled = plane.dots if len(plane.dots) <= _MOST_LABELED else plane.front
            figures["accuracy_over_speed.png"] = draw_plane(plane, Figure(figsize=(8, 4.5)), labeled)
            _add_names(figures["accuracy_over_speed.png"], labeled, title)
        if curves:
            best = best_curves(curves, table.primary)
            figures["curves.png"] = draw_curves(best, table.primary, Figure(figsize=(8, 4)))
            some = f"the best {len(best)} of {len(curves)}\n{title}" if len(best) < len(curves) else title
            figures["curves.png"].legend(loc="outside right upper", title=some, **_LEGEND)
        if has_effects(findings):
            figures["effects.png"] = draw_effects(findings.effects, table.primary, 8)
        return {name: as_png(figure, dpi=120) for name, figure in figures.items()}


def draw_svgs(findings: Findings) -> dict[str, dict[str, str]]:
    """Return SVGs for the page by name of the chart, each `wide` and `narrow`, of what there is to draw."""
    table, plane, curves = findings.table, findings.plane, findings.curves
    charts: dict[str, dict[str, str]] = {"points": {}, "effects": {}, "curves": {}}
    with rc_context(_PAGE_STYLE):
        for size, width in _WIDTHS.items():
            drawn: dict[str, Figure] = {}
            if plane.dots:
                numbered = plane.dots if len(plane.dots) <= _MOST_NUMBERED else []
                drawn["points"] = draw_plane(plane, Figure(figsize=(width, 4.4)), numbered, notes=False)
            if has_effects(findings):
                drawn["effects"] = draw_effects(findings.effects, table.primary, width)
            if curves:
                drawn["curves"] = draw_curves(curves, table.primary, Figure(figsize=(width, 4.2)))
            for name, figure in drawn.items():
                charts[name][size] = _as_svg(figure, f"{name}-{size}")
    return {name: sizes for name, sizes in charts.items() if sizes}


def has_effects(findings: Findings) -> bool:
    """Return whether any effect on the primary quantity is known."""
    return any(one.mean is not None for _, one in findings.effects.estimates(findings.table.primary))


def draw_plane(plane: Plane, figure: Figure, numbered: Iterable[Dot], notes: bool = True) -> Figure:
    """Draw a dot per cell with the seeds' standard deviation, and the Pareto front as steps.

    Args:
        plane: The dots.
        figure: An empty figure.
        numbered: The dots that get their number.
        notes: Write below the axis how x was measured, and what is left out.
    """
    figure.set_layout_engine("constrained")
    axes = figure.subplots()
    across, up, front = plane.across.quantity, plane.up.quantity, plane.front
    where: Literal["pre", "post"] = "post" if across.direction == "min" else "pre"
    steps = [one.x.mean * across.scale for one in front], [one.y.mean * up.scale for one in front]
    axes.step(*steps, where=where, color=QUIET, linewidth=1)
    with_number = {one.row.number for one in numbered}
    for one in plane.dots:
        _draw_dot(axes, one, across.scale, up.scale, one.row.number in with_number)
    texts = (plane.across.conditions, plane.left_out) if notes else ()
    axes.set(xlabel="\n".join([across.header, *(line for text in texts for line in wrap(text, _NOTE_WIDTH))]))
    axes.set(ylabel=up.header)
    axes.grid(alpha=0.3)
    return figure


def draw_curves(curves: list[Curve], quantity: Quantity, figure: Figure) -> Figure:
    """Draw the mean over seeds, and a band from the least to the largest, into an empty figure."""
    figure.set_layout_engine("constrained")
    axes = figure.subplots()
    for one in curves:
        own, style, gid = color(one.row.number), "--" if is_dashed(one.row.number) else "-", f"curve-{one.row.number}"
        line: dict[str, Any] = {"label": one.row.label, "linewidth": 1.5, "markersize": 4}
        axes.plot(one.epochs, one.mean, f"o{style}", color=own, gid=f"{gid}-line", **line)
        axes.fill_between(one.epochs, one.low, one.high, color=own, alpha=0.15, linewidth=0, gid=f"{gid}-band")
    axes.set(xlabel="epoch", ylabel=quantity.header)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.grid(alpha=0.3)
    return figure


def draw_effects(effects: Effects, quantity: Quantity, width: float) -> Figure:
    """Draw main effects and interactions with their intervals, `width` inches wide; significant ones are filled."""
    shown = effects.estimates(quantity)
    narrow = width < 6
    figure = Figure(figsize=(width, 0.45 * len(shown) + 1), layout="constrained")
    axes = figure.subplots()
    axes.axvline(0, color=QUIET, linewidth=1)
    for height, (_, one) in enumerate(shown):
        if one.mean is not None:
            _draw_estimate(axes, one, height)
    names = ["\n".join(wrap(name, 22 if narrow else 44, max_lines=3, placeholder="…")) for name, _ in shown]
    axes.set_yticks(range(len(shown)), names, fontsize=7 if narrow else None)
    axes.invert_yaxis()
    axes.set_xlabel(f"difference in {quantity.name} ({quantity.step})".replace(" ()", ""))
    axes.grid(alpha=0.3, axis="x")
    markers = [_estimate_marker(significant) for significant in (True, False)]
    where: dict[str, Any] = {"loc": "outside upper right", "frameon": False, "fontsize": 8, "ncols": 2}
    figure.legend(markers, ["significant", "not significant"], **where)
    return figure


def _add_names(figure: Figure, labeled: Iterable[Dot], title: str) -> None:
    """Add the legend of a plane's PNG."""
    rows = [one.row for one in labeled]
    handles = [Line2D([], [], marker="o", linestyle="", color=color(row.number)) for row in rows]
    handles.append(Line2D([], [], marker="o", color=QUIET, markerfacecolor="none", mec="black", linewidth=1))
    names = [*(row.label for row in rows), "Pareto front of the means"]
    figure.legend(handles, names, loc="outside right upper", title=title, **_LEGEND)


def _draw_dot(axes: Axes, dot: Dot, x_scale: float, y_scale: float, numbered: bool) -> None:
    x, y, own, gid = dot.x.mean * x_scale, dot.y.mean * y_scale, color(dot.row.number), f"point-{dot.row.number}"
    axes.errorbar(x, y, yerr=dot.y.sd * y_scale if dot.y.sd else None, color=own, capsize=3, linewidth=1)
    ring, size = "black" if dot.on_front else own, 11 if numbered else 5
    axes.plot(x, y, "o", color=own, markeredgecolor=ring, markersize=size, gid=gid)
    if numbered:
        style: dict[str, Any] = {
            "ha": "center",
            "va": "center_baseline",
            "color": "white",
            "fontsize": 7,
            "weight": "bold",
        }
        axes.annotate(str(dot.row.number), (x, y), gid=f"{gid}-number", **style)


def _draw_estimate(axes: Axes, estimate: Estimate, height: int) -> None:
    marker = _estimate_marker(estimate.is_significant)
    own = marker.get_color()
    if estimate.low is not None and estimate.high is not None:
        axes.plot([estimate.low, estimate.high], [height, height], color=own, linewidth=1.5)
    axes.plot([estimate.mean or 0.0], [height], "o", color=own, markerfacecolor=marker.get_markerfacecolor())


def _estimate_marker(significant: bool) -> Line2D:
    own = COLORS[0] if significant else QUIET
    return Line2D([], [], marker="o", color=own, markerfacecolor=own if significant else "white")


def _as_svg(figure: Figure, name: str) -> str:
    """Return the element `svg`, whose inner names no other one has."""
    buffer = StringIO()
    with rc_context({"svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]
