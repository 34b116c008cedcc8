"""The page: one file that needs no network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from shvit_pl.sweep.report.charts import draw_charts
from shvit_pl.sweep.report.conditions import conditions
from shvit_pl.sweep.report.curves import MOST
from shvit_pl.sweep.report.effects import effects, estimates
from shvit_pl.sweep.report.factors import compared, factors
from shvit_pl.sweep.report.paired import Estimate
from shvit_pl.sweep.report.quantities import INFERENCE, Quantity, quantities, quantity, run_value
from shvit_pl.sweep.report.rows import Row, rows
from shvit_pl.sweep.report.sentences import answer, certainty, is_finished, progress, signed
from shvit_pl.sweep.results import Results, Run

_MOST_LEVELS = 12  # of a choice that the table is filtered by


@dataclass(frozen=True)
class _Difference:
    """A row of the table of effects."""

    name: str
    quantity: Quantity
    estimate: Estimate

    @property
    def cells(self) -> tuple[str, ...]:
        """The difference, how sure it is, and of how many pairs; empty without any."""
        each = self.estimate
        if each.mean is None:
            return ("", "", "")
        unit = self.quantity.step
        return f"{signed(each)} {unit}", certainty(each, unit), f"{each.pairs} of {each.planned}"


def render(results: Results) -> str:
    """The whole page as HTML."""
    environment = Environment(
        loader=PackageLoader("shvit_pl.sweep.report"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters["link"] = lambda folder: quote(folder) + "/"
    return environment.get_template("page.html.j2").render(
        results=results,
        rows=rows(results),
        columns=quantities(results),
        choices=[factor.header for factor in factors(results)],
        filters=[factor for factor in factors(results) if len(factor.levels) <= _MOST_LEVELS],
        sentences=answer(results),
        progress=progress(results),
        is_finished=is_finished(results),
        differences=_differences(results),
        is_listed=any(not factor.flags for factor in compared(results)),
        conditions=conditions(results),
        charts=draw_charts(results),
        most_curves=MOST,
        speeds=lambda row: _speeds(results, row),
        metrics=_metrics,
        plotly=Markup(get_plotlyjs()),
    )


def _differences(results: Results) -> list[_Difference]:
    found = effects(results)
    return [_Difference(name, of, one) for of in found.gains for name, one in estimates(found, of)]


def _speeds(results: Results, row: Row) -> dict[str, str]:
    """Inference speed of a cell with the quartiles of its rounds, or why there is none."""
    measured: dict[str, Any] = ((results.speed or {}).get("cells") or {}).get(row.cell.name) or {}
    lines = {}
    for how in INFERENCE:
        of, value, quartiles = quantity(INFERENCE[how]), measured.get(how), measured.get(f"{how}_iqr")
        if value is not None:
            spread = f" (quartiles {of.show(quartiles[0])} to {of.show(quartiles[1])})" if quartiles else ""
            lines[of.name] = of.show(value) + spread
        elif measured.get(f"{how}_why"):
            lines[of.name] = f"none: {measured[f'{how}_why']}"
    return lines


def _metrics(run: Run) -> dict[str, str]:
    """A run's validation metrics at its best epoch, and its costs, as text."""
    summary = run.summary or {}
    keys = [*(summary.get("metrics") or {}), "params", "macs", "images_per_second", "peak_memory_mb", "wall_seconds"]
    values = {key: run_value(run, key) for key in keys}
    return {quantity(key).header: quantity(key).show(value) for key, value in values.items() if value is not None}
