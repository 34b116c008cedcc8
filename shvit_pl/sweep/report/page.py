"""The page: one file that needs no network."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from shvit_pl.display.words import counted
from shvit_pl.sweep.plan.objectives import COSTS
from shvit_pl.sweep.report.charts import draw_charts
from shvit_pl.sweep.report.effects import estimates
from shvit_pl.sweep.report.findings import Findings
from shvit_pl.sweep.report.histories import MOST
from shvit_pl.sweep.report.paired import Estimate
from shvit_pl.sweep.report.quantities import INFERENCE, Quantity, cell_speed, quantity, run_value
from shvit_pl.sweep.report.rows import Row
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


def render(found: Findings) -> str:
    """The whole page as HTML."""
    results = found.results
    environment = Environment(
        loader=PackageLoader("shvit_pl.sweep.report"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters["link"] = lambda folder: quote(folder) + "/"
    return environment.get_template("page.html.j2").render(
        results=results,
        found=found,
        filters=[factor for factor in found.factors if len(factor.levels) <= _MOST_LEVELS],
        sentences=answer(found),
        progress=progress(results),
        is_finished=is_finished(results),
        differences=_differences(found),
        is_listed=any(not main.contrast.factor.flags for main in found.effects.main),
        charts=draw_charts(found),
        counted=counted,
        most_curves=MOST,
        speeds=lambda row: _speeds(results, row),
        metrics=_metrics,
        plotly=Markup(get_plotlyjs()),
    )


def _differences(found: Findings) -> list[_Difference]:
    every = found.effects
    return [_Difference(name, of, one) for of in every.gains for name, one in estimates(every, of)]


def _speeds(results: Results, row: Row) -> dict[str, str]:
    """Inference speed of a cell with the quartiles of its rounds, or why there is none."""
    measured, lines = cell_speed(results, row.cell), {}
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
    values = {key: run_value(run, key) for key in (*((run.summary or {}).get("metrics") or {}), *COSTS)}
    return {quantity(key).header: quantity(key).show(value) for key, value in values.items() if value is not None}
