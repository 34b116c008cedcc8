"""`results.csv` with every run's raw values, and `results.md` with a row per cell."""

from __future__ import annotations

import csv
from io import StringIO
from typing import Any

from shvit_pl.display.words import in_markdown
from shvit_pl.sweep.plan.flags import short_names
from shvit_pl.sweep.plan.objectives import COSTS
from shvit_pl.sweep.report.findings import Findings, findings_of
from shvit_pl.sweep.report.quantities import cell_values
from shvit_pl.sweep.report.sentences import answer, progress
from shvit_pl.sweep.results import Results, Run


def runs_csv(found: Findings) -> str:
    """One row per run: its choices, state, metrics and costs as they were measured, folder and command."""
    results = found.results
    flags = short_names(dict.fromkeys(flag for cell in results.cells for flag in cell.choices))
    every = [run for cell in results.cells for run in cell.runs]
    metrics = list(dict.fromkeys(key for run in every for key in (run.summary or {}).get("metrics") or {}))
    speeds = [of for of in found.quantities if of.is_inference]
    known = [*metrics, *COSTS, "best_epoch"]
    buffer = StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(
        ["cell", *flags.values(), "seed", "state", *known, *(of.key for of in speeds), "folder", "command", "error"]
    )
    for cell in results.cells:
        inference = [cell_values(results, cell, of).get(0) for of in speeds]
        choices = [cell.choices.get(flag) for flag in flags]
        for run in cell.runs:
            end = [run.folder, run.command, run.error]
            writer.writerow([cell.name, *choices, run.seed, run.state, *_raw(run, known), *inference, *end])
    return buffer.getvalue()


def cells_markdown(results: Results) -> str:
    """The answer, a table with a row per cell, and the conditions, for a paper or a card."""
    return markdown(findings_of(results))


def markdown(found: Findings) -> str:
    """The same of what is worked out already."""
    parts = [
        f"# {in_markdown(found.results.title)}",
        f"{progress(found.results)}.",
        "\n".join(f"- {in_markdown(sentence)}" for sentence in answer(found)),
        _cells(found),
        "Mean ± standard deviation over seeds.",
        "\n".join(f"- {name}: {in_markdown(text)}" for name, text in found.conditions.items()),
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def _cells(found: Findings) -> str:
    head = [column.header for column in found.columns]
    body = [[column.text(row) for column in found.columns] for row in found.rows]
    return "\n".join(f"| {' | '.join(map(in_markdown, line))} |" for line in [head, ["---"] * len(head), *body])


def _raw(run: Run, keys: list[str]) -> list[Any]:
    """Values as the summary has them."""
    summary = run.summary or {}
    values = {**summary, **(summary.get("metrics") or {})}
    return [values.get(key) for key in keys]
