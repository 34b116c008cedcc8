"""The report's figures: as PNG for a paper or a card, and as SVG for the page.

In the page, the groups `point-N` and `curve-N` belong to the cell with that number, and the colors of text and of the
Pareto front's rings follow the page, light or dark (page.css); names of the cells are in the page's own list.
"""

from collections.abc import Sequence
from io import StringIO
from textwrap import wrap
from typing import Any, Literal

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from shvit_pl.plots import COLORS, LEAST_ACCURACY, QUIET, as_png, color, widen
from shvit_pl.sweep.report.comparisons import Effect
from shvit_pl.sweep.report.findings import Curve, Findings, Plane
from shvit_pl.sweep.report.table import Quantity, Row

_MOST_LABELED = 16  # dots with a name in the legend of a PNG
_MOST_NUMBERED = 40  # dots with a number in the page
_NOTE_WIDTH = 72  # characters below an axis
_PNGS = {"points": "accuracy_over_speed.png", "curves": "curves.png", "effects": "effects.png"}
_WIDTHS = {"wide": 9.5, "narrow": 4.2}  # inches, in the page: a desktop and a phone
_STYLE: Any = {"text.parse_math": False}  # a name may have two dollar signs
_PAGE_STYLE: Any = _STYLE | {
    "svg.fonttype": "none", "axes.edgecolor": QUIET, "xtick.color": QUIET, "ytick.color": QUIET,
    "xtick.labelcolor": "black", "ytick.labelcolor": "black", "grid.color": QUIET,
}  # fmt: skip
_LEGEND: dict[str, Any] = {"frameon": False, "fontsize": 8, "title_fontsize": 8}
_NAMES: dict[str, Any] = _LEGEND | {"loc": "outside right upper", "alignment": "left"}


def draw_pngs(findings: Findings) -> dict[str, bytes]:
    """Return PNGs by file name, of what there is to draw."""
    rows, curves, title = findings.plane.rows, findings.curves, findings.table.names_title
    labeled = rows if len(rows) <= _MOST_LABELED else findings.plane.front
    best = findings.best_curves
    with rc_context(_STYLE):
        figures = _draw(findings, 8, labeled, best, notes=True)
        if "points" in figures:
            handles = [Line2D([], [], marker="o", linestyle="", color=color(row.number)) for row in labeled]
            handles.append(Line2D([], [], marker="o", color=QUIET, markerfacecolor="none", mec="black", linewidth=1))
            names = [*(row.label for row in labeled), "Pareto front of the means"]
            figures["points"].legend(handles, names, title=title, **_NAMES)
        if "curves" in figures:
            some = f"the best {len(best)} of {len(curves)}\n{title}" if len(best) < len(curves) else title
            figures["curves"].legend(title=some, **_NAMES)
        return {_PNGS[name]: as_png(figure, dpi=120) for name, figure in figures.items()}


def draw_svgs(findings: Findings) -> dict[str, dict[str, str]]:
    """Return SVGs for the page by name of the chart, each `wide` and `narrow`, of what there is to draw."""
    rows = findings.plane.rows
    charts: dict[str, dict[str, str]] = {}
    for size, width in _WIDTHS.items():
        with rc_context(_PAGE_STYLE):
            figures = _draw(findings, width, rows if len(rows) <= _MOST_NUMBERED else [], findings.curves)
            for name, figure in figures.items():
                buffer = StringIO()
                with rc_context({"svg.hashsalt": f"{name}-{size}"}):  # inner names that no other drawing has
                    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
                text = buffer.getvalue()
                charts.setdefault(name, {})[size] = text[text.index("<svg") :]
    return charts


def _draw(
    findings: Findings, width: float, numbered: Sequence[Row], curves: Sequence[Curve], notes: bool = False
) -> dict[str, Figure]:
    """Draw what there is, `width` inches wide: dots, of which some get their number, effects and curves."""
    primary, figures = findings.table.primary, dict[str, Figure]()
    effects = [effect for effect in findings.effects if primary.key in effect.gains]
    if findings.plane.rows:
        figures["points"] = _draw_plane(findings.plane, width, numbered, notes)
    if any(effect.gains[primary.key].mean is not None for effect in effects):
        least = _least(findings.table.rows, primary) / primary.scale * primary.step_scale
        figures["effects"] = _draw_effects(effects, primary, width, least)
    if curves:
        figures["curves"] = _draw_curves(curves, primary, width)
    return figures


def _least(rows: Sequence[Row], quantity: Quantity) -> float:
    """Return the least range of a quantity's axis, as shown: of other than accuracies, a tenth of its values."""
    values = [abs(_scaled(row, quantity)) for row in rows if quantity.key in row.values]
    return LEAST_ACCURACY if quantity.is_share else 0.1 * max(values, default=0.0)


def _widen(axes: Axes, axis: Literal["x", "y"], rows: Sequence[Row], quantity: Quantity) -> None:
    bounds = (0.0, 1.0) if quantity.is_share else ()
    widen(axes, axis, _least(rows, quantity), *bounds)


def _draw_plane(plane: Plane, width: float, numbered: Sequence[Row], notes: bool) -> Figure:
    """Draw a dot per cell with the seeds' standard deviation, and the Pareto front as steps.

    `notes` are written below the axis: how x was measured, and what is left out.
    """
    figure = Figure(figsize=(width, 4.4), layout="constrained")
    axes, across, up = figure.subplots(), plane.across, plane.up
    places = {row.number: (_scaled(row, across), _scaled(row, up)) for row in plane.rows}
    where: Literal["pre", "post"] = "post" if across.direction == "min" else "pre"
    front = [places[row.number] for row in plane.front]
    axes.step([x for x, _ in front], [y for _, y in front], where=where, color=QUIET, linewidth=1)
    for row in plane.rows:
        (x, y), hue, gid, sd = places[row.number], color(row.number), f"point-{row.number}", row.values[up.key].sd
        axes.errorbar(x, y, yerr=sd * up.scale if sd else None, color=hue, capsize=3, linewidth=1)
        ring, size = "black" if row in plane.front else hue, 11 if row in numbered else 5
        axes.plot(x, y, "o", color=hue, markeredgecolor=ring, markersize=size, gid=gid)
        if row in numbered:
            style: dict[str, Any] = {"color": "white", "fontsize": 7, "weight": "bold", "gid": f"{gid}-number"}
            axes.annotate(str(row.number), (x, y), ha="center", va="center_baseline", **style)
    texts = (plane.conditions, plane.left_out) if notes else ()
    lines = [across.header, *(line for text in texts for line in wrap(text, _NOTE_WIDTH))]
    axes.set(xlabel="\n".join(lines), ylabel=up.header)
    _widen(axes, "x", plane.rows, across)
    _widen(axes, "y", plane.rows, up)
    axes.grid(alpha=0.3)
    return figure


def _scaled(row: Row, quantity: Quantity) -> float:
    return row.values[quantity.key].mean * quantity.scale


def _draw_curves(curves: Sequence[Curve], quantity: Quantity, width: float) -> Figure:
    """Draw the mean over seeds, and a band from the least to the largest."""
    figure = Figure(figsize=(width, 4.2), layout="constrained")
    axes = figure.subplots()
    for curve in curves:
        number = curve.row.number
        style = "--" if (number - 1) // len(COLORS) % 2 else "-"  # dashed if an earlier cell has the same color
        hue, gid = color(number), f"curve-{number}"
        line: dict[str, Any] = {"label": curve.row.label, "linewidth": 1.5, "markersize": 4}
        axes.plot(curve.epochs, curve.mean, f"o{style}", color=hue, gid=f"{gid}-line", **line)
        axes.fill_between(curve.epochs, curve.low, curve.high, color=hue, alpha=0.15, linewidth=0, gid=f"{gid}-band")
    axes.set(xlabel="epoch", ylabel=quantity.header)
    _widen(axes, "y", [curve.row for curve in curves], quantity)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.grid(alpha=0.3)
    return figure


def _draw_effects(effects: Sequence[Effect], quantity: Quantity, width: float, least: float) -> Figure:
    """Draw main effects and interactions with their intervals; significant ones are filled."""
    narrow = width < 6
    figure = Figure(figsize=(width, 0.45 * len(effects) + 1), layout="constrained")
    axes = figure.subplots()
    axes.axvline(0, color=QUIET, linewidth=1)
    styles: dict[bool, dict[str, Any]] = {
        True: {"color": COLORS[0], "markerfacecolor": COLORS[0]},
        False: {"color": QUIET, "markerfacecolor": "white"},
    }
    for height, gain in enumerate(effect.gains[quantity.key] for effect in effects):
        style = styles[gain.is_significant]
        if gain.low is not None and gain.high is not None:
            axes.plot([gain.low, gain.high], [height, height], color=style["color"], linewidth=1.5)
        if gain.mean is not None:
            axes.plot([gain.mean], [height], "o", **style)
    widen(axes, "x", least)
    names = ["\n".join(wrap(effect.name, 22 if narrow else 44, max_lines=3, placeholder="…")) for effect in effects]
    axes.set_yticks(range(len(effects)), names, fontsize=7 if narrow else None)
    axes.invert_yaxis()
    axes.set_xlabel(f"difference in {quantity.name} ({quantity.step})".replace(" ()", ""))
    axes.grid(alpha=0.3, axis="x")
    markers = [Line2D([], [], marker="o", **style) for style in styles.values()]
    figure.legend(markers, ["significant", "not significant"], loc="outside upper right", ncols=2, **_LEGEND)
    return figure
