"""The files of a report: the page, `results.csv` with every run's raw values, `results.md` for a paper, figures."""

import csv
from io import StringIO
from pathlib import Path
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from shvit_pl.display import counted, in_markdown
from shvit_pl.files import write_whole
from shvit_pl.plots import color
from shvit_pl.runs.folder import FIGURES
from shvit_pl.sweep.definition import COSTS
from shvit_pl.sweep.engine.reading import Run
from shvit_pl.sweep.report.figures import draw_pngs, draw_svgs
from shvit_pl.sweep.report.findings import Findings
from shvit_pl.sweep.report.table import INFERENCE, Row, quantity, run_value
from shvit_pl.sweep.report.text import certainty, conclusions, is_finished, progress

PAGE = "report.html"
_MOST_LEVELS = 12  # a choice with more levels gets no filter in the page's table


def write_report(findings: Findings, folder: Path) -> list[Path]:
    """Write the page, the tables and the figures of a sweep, finished or not; each file atomically.

    Links in the page are relative to `folder`. Of `figures/*.png`, those are written that there is data for.
    """
    texts = {PAGE: page_html(findings), "results.csv": runs_csv(findings), "results.md": cells_markdown(findings)}
    files = {name: text.encode() for name, text in texts.items()}
    files |= {f"{FIGURES}/{name}": image for name, image in draw_pngs(findings).items()}
    return [write_whole(folder / name, content) for name, content in files.items()]


def runs_csv(findings: Findings) -> str:
    """Return one row per run: its choices, state, metrics and costs as they were measured, folder and command."""
    table = findings.table
    runs = [run for row in table.rows for run in row.cell.runs]
    metrics = list(dict.fromkeys(key for run in runs for key in (run.summary or {}).get("metrics") or {}))
    speeds = [one.key for one in table.quantities if one.is_inference]
    raw = [*metrics, *COSTS, "best_epoch"]
    buffer = StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    folds = ["fold"] * bool(findings.results.folds)
    writer.writerow(
        ["cell", *table.headers.values(), "seed", *folds, "state", *raw, *speeds, "folder", "command", "error"]
    )
    for row in table.rows:
        choices = [row.cell.choices.get(flag) for flag in table.headers]
        inference = [row.values[key].mean if key in row.values else None for key in speeds]
        for run in row.cell.runs:
            summary = run.summary or {}
            values = {**summary, **(summary.get("metrics") or {})}
            measured = [*(values.get(key) for key in raw), *inference]
            ends = (run.folder, run.command, run.error)
            writer.writerow([row.cell.name, *choices, run.seed, *[run.fold] * len(folds), run.state, *measured, *ends])
    return buffer.getvalue()


def cells_markdown(findings: Findings) -> str:
    """Return the conclusions, a table with a row per cell, and the conditions, for a paper or a card."""
    first, *details = conclusions(findings)
    columns = findings.table.columns
    head = [column.header for column in columns]
    body = zip(*(column.text for column in columns), strict=True)
    parts = [
        f"# {in_markdown(findings.results.title)}",
        f"{progress(findings.results)}.",
        in_markdown(first),
        "\n".join(f"- {in_markdown(sentence)}" for sentence in details),
        "\n".join(f"| {' | '.join(map(in_markdown, line))} |" for line in [head, ["---"] * len(head), *body]),
        f"Mean ± {findings.table.uncertainty}.",
        "\n".join(f"- {name}: {in_markdown(text)}" for name, text in findings.conditions.items()),
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def page_html(findings: Findings) -> str:
    """Return the page, one file that needs no network."""
    table, plane = findings.table, findings.plane
    environment = Environment(
        loader=PackageLoader("shvit_pl.sweep.report"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters["link"] = lambda folder: quote(folder) + "/"
    charts = {name: {size: Markup(svg) for size, svg in sizes.items()} for name, sizes in draw_svgs(findings).items()}
    hover = {}
    for row in plane.rows:
        values = (f"{one.header}: {row.show(one)}" for one in (plane.up, plane.across))
        hover[row.number] = "\n".join([row.label, *values])
    return environment.get_template("page.html.j2").render(
        **vars(findings),
        filters=[factor for factor in table.factors if len(factor.levels) <= _MOST_LEVELS],
        is_listed=any(not effect.contrasts[0].factor.header for effect in findings.effects),
        best_curves=findings.best_curves,
        sentences=conclusions(findings),
        progress=progress(findings.results),
        is_finished=is_finished(findings.results),
        charts=charts,
        hover=hover,
        certainty=certainty,
        color=color,
        counted=counted,
        speeds=_speeds,
        metrics=_metrics,
    )


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
