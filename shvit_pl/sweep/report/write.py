"""The files of a report: the page, `results.csv` with every run's raw values, `results.md` for a paper, figures."""

from __future__ import annotations

import csv
from io import StringIO
from pathlib import Path

from shvit_pl.display.words import in_markdown
from shvit_pl.files import write_whole
from shvit_pl.runs.folder import FIGURES
from shvit_pl.sweep.plan.definition import COSTS, short_names
from shvit_pl.sweep.report.figures import draw_pngs
from shvit_pl.sweep.report.findings import Findings
from shvit_pl.sweep.report.page import render
from shvit_pl.sweep.report.table import columns
from shvit_pl.sweep.report.text import answer, progress

PAGE = "report.html"


def write_report(findings: Findings, folder: Path) -> list[Path]:
    """Write the page, the tables and the figures of a sweep, finished or not; each file atomically.

    Args:
        findings: The sweep's results so far, in numbers.
        folder: The sweep folder; links in the page are relative to it.

    Returns:
        The files: `report.html`, `results.csv`, `results.md`, and of `figures/*.png` those that there is data for.
    """
    texts = {PAGE: render(findings), "results.csv": runs_csv(findings), "results.md": cells_markdown(findings)}
    files = {name: text.encode() for name, text in texts.items()}
    files |= {f"{FIGURES}/{name}": image for name, image in draw_pngs(findings).items()}
    return [write_whole(folder / name, content) for name, content in files.items()]


def runs_csv(findings: Findings) -> str:
    """Return one row per run: its choices, state, metrics and costs as they were measured, folder and command."""
    results, table = findings.results, findings.table
    flags = short_names(dict.fromkeys(flag for cell in results.cells for flag in cell.choices))
    runs = [run for cell in results.cells for run in cell.runs]
    metrics = list(dict.fromkeys(key for run in runs for key in (run.summary or {}).get("metrics") or {}))
    speeds = [one.key for one in table.quantities if one.is_inference]
    raw = [*metrics, *COSTS, "best_epoch"]
    buffer = StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["cell", *flags.values(), "seed", "state", *raw, *speeds, "folder", "command", "error"])
    for row in table.rows:
        choices = [row.cell.choices.get(flag) for flag in flags]
        inference = [row.values[key].mean if key in row.values else None for key in speeds]
        for run in row.cell.runs:
            summary = run.summary or {}
            values = {**summary, **(summary.get("metrics") or {})}
            measured = [*(values.get(key) for key in raw), *inference]
            writer.writerow(
                [row.cell.name, *choices, run.seed, run.state, *measured, run.folder, run.command, run.error]
            )
    return buffer.getvalue()


def cells_markdown(findings: Findings) -> str:
    """Return the answer, a table with a row per cell, and the conditions, for a paper or a card."""
    parts = [
        f"# {in_markdown(findings.results.title)}",
        f"{progress(findings.results)}.",
        "\n".join(f"- {in_markdown(sentence)}" for sentence in answer(findings)),
        _markdown_table(findings),
        "Mean ± standard deviation over seeds.",
        "\n".join(f"- {name}: {in_markdown(text)}" for name, text in findings.conditions.items()),
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def _markdown_table(findings: Findings) -> str:
    shown = columns(findings.table)
    head = [column.header for column in shown]
    body = zip(*(column.text for column in shown), strict=True)
    return "\n".join(f"| {' | '.join(map(in_markdown, line))} |" for line in [head, ["---"] * len(head), *body])
