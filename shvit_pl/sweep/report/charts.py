"""The page's charts, as plotly draws them. The page itself chooses text colours, for light and dark."""

from __future__ import annotations

import json
from html import escape
from typing import Any

import plotly.graph_objects as go
from matplotlib.ticker import MaxNLocator

from shvit_pl.display.plots import COLORS, QUIET, color, is_dashed
from shvit_pl.sweep.report.effects import Effects, estimates
from shvit_pl.sweep.report.findings import Findings
from shvit_pl.sweep.report.histories import Curve, best
from shvit_pl.sweep.report.paired import Estimate
from shvit_pl.sweep.report.plane import Dot, Plane
from shvit_pl.sweep.report.quantities import Quantity

_MOST_NUMBERED = 40
_EPOCHS = MaxNLocator(nbins=8, integer=True)
_LEGEND_BELOW: dict[str, Any] = {"orientation": "h", "x": 0, "y": -0.2, "yanchor": "top"}


def draw_charts(found: Findings) -> dict[str, dict[str, Any]]:
    """Charts by name, as plotly.js takes them: `{"data": [...], "layout": {...}}`, of what there is to draw."""
    of, lines = found.primary, found.curves
    charts: dict[str, go.Figure] = {}
    if found.plane.dots:
        charts["points"] = plane_chart(found.plane)
    if any(one.mean is not None for _, one in estimates(found.effects, of)):
        charts["effects"] = effect_chart(found.effects, of)
    if lines:
        charts["curves"] = curve_chart(lines, of, found.names_title)
    return {name: json.loads(figure.to_json()) for name, figure in charts.items()}


def plane_chart(plane: Plane) -> go.Figure:
    """A dot per cell with its number, and the Pareto front as steps; a dot's `customdata` is the number."""
    x, y, known = plane.across.quantity, plane.up.quantity, plane.dots
    front, numbered = plane.front, len(known) <= _MOST_NUMBERED
    figure = go.Figure(layout=_layout(x.header, y.header, height=460))
    figure.add_scatter(
        x=[one.x.mean * x.scale for one in front], y=[one.y.mean * y.scale for one in front], mode="lines",
        line={"shape": "hv" if x.direction == "min" else "vh", "color": QUIET, "width": 1.5}, hoverinfo="skip",
    )  # fmt: skip
    figure.add_scatter(
        x=[one.x.mean * x.scale for one in known], y=[one.y.mean * y.scale for one in known],
        error_y={"array": [(one.y.sd or 0) * y.scale for one in known], "color": QUIET, "thickness": 1.5, "width": 4},
        mode="markers+text" if numbered else "markers", text=[str(one.row.number) for one in known],
        marker={"size": 20 if numbered else 10, "color": [color(one.row.number) for one in known], "opacity": 1,
                "line": {"width": [2.5 if one.on_front else 0 for one in known]}},
        textfont={"color": "white", "size": 11, "weight": 700}, customdata=[one.row.number for one in known],
        hovertext=[_hover(one, x, y) for one in known], hoverinfo="text",
    )  # fmt: skip
    return figure


def curve_chart(lines: list[Curve], of: Quantity, title: str) -> go.Figure:
    """Mean over seeds and the band of all seeds; beyond what a chart can hold, the worse ones start hidden."""
    figure = go.Figure(layout=_layout("epoch", of.header, height=460 + 10 * len(lines)))
    figure.update_layout(
        showlegend=True, legend={**_LEGEND_BELOW, "title": {"text": escape(title), "side": "top", "font": {"size": 12}}}
    )
    ticks = _EPOCHS.tick_values(0, max(one.epochs[-1] for one in lines))
    figure.update_xaxes(tick0=0, dtick=float(ticks[1] - ticks[0]))
    visible = {one.row.number for one in best(lines, of)}
    for one in lines:
        shown = True if one.row.number in visible else "legendonly"
        own, group = color(one.row.number), str(one.row.number)
        dash = "dash" if is_dashed(one.row.number) else "solid"
        figure.add_scatter(
            x=one.epochs + one.epochs[::-1], y=one.high + one.low[::-1], fill="toself", fillcolor=own, opacity=0.18,
            line={"width": 0}, mode="lines", hoverinfo="skip", showlegend=False, legendgroup=group, visible=shown,
        )  # fmt: skip
        figure.add_scatter(
            x=one.epochs, y=one.mean, mode="lines+markers", name=escape(_short(one.row.label)), legendgroup=group,
            marker={"size": 4 if len(one.epochs) > 1 else 9}, line={"color": own, "width": 2, "dash": dash},
            visible=shown, hovertemplate=f"{escape(one.row.label)}<br>epoch %{{x}}: %{{y:.2f}}<extra></extra>",
        )  # fmt: skip
    return figure


def effect_chart(found: Effects, of: Quantity) -> go.Figure:
    """Main effects and interactions with their intervals; what is beyond the noise is filled."""
    shown = [(_wrapped(*_halves(name)), one) for name, one in estimates(found, of) if one.mean is not None]
    figure = go.Figure(layout=_layout(f"{of.name}, {of.step}".strip(", "), "", height=110 + 46 * len(shown)))
    figure.update_layout(showlegend=True, legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"})
    figure.update_yaxes(range=[len(shown) - 0.5, -0.5], showgrid=False, tickfont={"size": 12})
    figure.add_vline(x=0, line={"color": QUIET, "width": 1})
    for seen, name in ((True, "beyond the noise"), (False, "not beyond the noise")):
        _add_estimates(figure, [(label, one) for label, one in shown if one.is_seen is seen], name, seen)
    figure.update_yaxes(categoryorder="array", categoryarray=[label for label, _ in shown])
    return figure


def _add_estimates(figure: go.Figure, shown: list[tuple[str, Estimate]], name: str, seen: bool) -> None:
    own = COLORS[0] if seen else QUIET
    means = [one.mean or 0.0 for _, one in shown]
    above = [one.high - mean if one.high is not None else 0.0 for mean, (_, one) in zip(means, shown, strict=True)]
    symbol = "circle" if seen else "circle-open"
    figure.add_scatter(
        x=means, y=[label for label, _ in shown], mode="markers", name=name,
        error_x={"array": above, "color": own, "thickness": 2, "width": 0},
        marker={"size": 11, "color": own, "symbol": symbol, "line": {"width": 2, "color": own}},
        hovertemplate="%{y}: %{x:+.2f}<extra></extra>",
    )  # fmt: skip


def _layout(x: str, y: str, height: int) -> go.Layout:
    axis, small = {"automargin": True, "zeroline": False}, {"size": 13}
    return go.Layout(
        height=height, showlegend=False, margin={"l": 8, "r": 12, "t": 12, "b": 8},
        paper_bgcolor="rgba(0,0,0,0)", plot_bgcolor="rgba(0,0,0,0)", hovermode="closest",
        xaxis={**axis, "title": {"text": x, "font": small}}, yaxis={**axis, "title": {"text": y, "font": small}},
    )  # fmt: skip


def _hover(one: Dot, x: Quantity, y: Quantity) -> str:
    lines = [one.row.label, f"{y.header}: {one.row.show(y)}", f"{x.header}: {one.row.show(x)}"]
    return "<br>".join(escape(line) for line in [*lines, *(["on the Pareto front"] if one.on_front else [])])


def _halves(name: str) -> tuple[str, str]:
    """A name in two lines, broken before the word that joins it."""
    for joint in (" instead of ", " by "):
        before, found, after = name.partition(joint)
        if found:
            return before, f"{found.strip()} {after}"
    return name, ""


def _wrapped(*lines: str) -> str:
    return "<br>".join(escape(line) for line in lines if line)


def _short(name: str, most: int = 44) -> str:
    return name if len(name) <= most else f"{name[: most - 1]}…"
