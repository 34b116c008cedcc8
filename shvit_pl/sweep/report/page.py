"""The page: one file that needs no network."""

from __future__ import annotations

from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from shvit_pl.display.plots import color
from shvit_pl.display.words import counted
from shvit_pl.sweep.plan.definition import COSTS
from shvit_pl.sweep.report.figures import draw_svgs
from shvit_pl.sweep.report.findings import MOST_CURVES, Findings, best_curves
from shvit_pl.sweep.report.quantities import INFERENCE, quantity, run_value
from shvit_pl.sweep.report.statistics import Estimate
from shvit_pl.sweep.report.table import Row, columns
from shvit_pl.sweep.report.text import answer, certainty, is_finished, progress, signed
from shvit_pl.sweep.results import Run

_MOST_LEVELS = 12  # of a choice that the table is filtered by


def render(findings: Findings) -> str:
    """Return the whole page as HTML."""
    results, table = findings.results, findings.table
    environment = Environment(
        loader=PackageLoader("shvit_pl.sweep.report"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters["link"] = lambda folder: quote(folder) + "/"
    charts = {name: {size: Markup(svg) for size, svg in sizes.items()} for name, sizes in draw_svgs(findings).items()}
    return environment.get_template("page.html.j2").render(
        results=results,
        rows=table.rows,
        columns=columns(table),
        filters=[factor for factor in table.factors if len(factor.levels) <= _MOST_LEVELS],
        plane=findings.plane,
        conditions=findings.conditions,
        sentences=answer(findings),
        progress=progress(results),
        is_finished=is_finished(results),
        differences=_differences(findings),
        is_listed=any(not main.contrast.factor.flags for main in findings.effects.main),
        charts=charts,
        curves=_curve_names(findings),
        names_title=table.names_title,
        hover={dot.row.number: _hover(findings, dot.row) for dot in findings.plane.dots},
        counted=counted,
        most_curves=MOST_CURVES,
        speeds=_speeds,
        metrics=_metrics,
    )


def _differences(findings: Findings) -> list[tuple[str, ...]]:
    """Return the rows of the table of effects."""
    effects = findings.effects
    return [
        (name, gain.name, *_difference(estimate, gain.step))
        for gain in effects.gains
        for name, estimate in effects.estimates(gain)
    ]


def _difference(estimate: Estimate, unit: str) -> tuple[str, str, str]:
    """Return a difference, how sure it is, and of how many pairs; empty without any."""
    if estimate.mean is None:
        return "", "", ""
    return f"{signed(estimate)} {unit}", certainty(estimate, unit), f"{estimate.pairs} of {estimate.planned}"


def _curve_names(findings: Findings) -> list[tuple[Row, str, bool]]:
    """Return the row and color of each curve, and whether it is shown at first."""
    shown = {one.row.number for one in best_curves(findings.curves, findings.table.primary)}
    return [(one.row, color(one.row.number), one.row.number in shown) for one in findings.curves]


def _hover(findings: Findings, row: Row) -> str:
    across, up = findings.plane.across.quantity, findings.plane.up.quantity
    return "\n".join([row.label, *(f"{one.header}: {row.show(one)}" for one in (up, across))])


def _speeds(row: Row) -> dict[str, str]:
    """Return the inference speed of a cell with the quartiles of its rounds, or why there is none."""
    lines = {}
    for mode, key in INFERENCE.items():
        speed, spread, reason = quantity(key), row.values.get(key), row.speed.get(f"{mode}_why")
        if spread is not None:
            ends = [speed.show(end) for end in spread.quartiles or ()]
            lines[speed.name] = speed.show(spread.mean) + (f" (quartiles {' to '.join(ends)})" if ends else "")
        elif reason:
            lines[speed.name] = f"none: {reason}"
    return lines


def _metrics(run: Run) -> dict[str, str]:
    """Return a run's validation metrics at its best epoch, and its costs, as text."""
    values = {key: run_value(run, key) for key in (*((run.summary or {}).get("metrics") or {}), *COSTS)}
    return {quantity(key).header: quantity(key).show(value) for key, value in values.items() if value is not None}
