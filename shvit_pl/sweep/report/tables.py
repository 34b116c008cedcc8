"""`results.csv` with every run's raw values, and `results.md` with a row per cell."""

from __future__ import annotations

import csv
from io import StringIO
from typing import Any

from shvit_pl.sweep.choices import short_names
from shvit_pl.sweep.report.conditions import conditions
from shvit_pl.sweep.report.quantities import cell_values, quantities
from shvit_pl.sweep.report.rows import Row, rows
from shvit_pl.sweep.report.sentences import answer, progress
from shvit_pl.sweep.results import Results, Run

_COSTS = ("params", "macs", "images_per_second", "peak_memory_mb", "wall_seconds", "best_epoch")
_PAPER = ("source", "top1", "params_m", "gpu", "cpu", "onnx")


def runs_csv(results: Results) -> str:
    """One row per run: its choices, state, metrics and costs as they were measured, folder and command."""
    flags = short_names(dict.fromkeys(flag for cell in results.cells for flag in cell.choices))
    every = [run for cell in results.cells for run in cell.runs]
    metrics = list(dict.fromkeys(key for run in every for key in (run.summary or {}).get("metrics") or {}))
    speeds = [of for of in quantities(results) if of.key.startswith("inference_")]
    known = [*metrics, *_COSTS]
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
    parts = [
        f"# {_plain(results.title)}",
        f"{progress(results)}.",
        "\n".join(f"- {_plain(sentence)}" for sentence in answer(results)),
        _cells(results),
        "Mean ± standard deviation over seeds.",
        "\n".join(f"- {name}: {_plain(text)}" for name, text in conditions(results).items()),
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def _cells(results: Results) -> str:
    found, columns = rows(results), quantities(results)
    names = ["cell"] if results.kind == "list" else []
    choices = list(found[0].choices) if found else []
    paper = [f"paper: {key}" for key in _PAPER] if any(row.paper for row in found) else []
    head = ["no.", *names, *choices, "runs", *(of.header for of in columns), *paper]
    body = [
        [
            str(row.number), *([row.name] if names else []), *row.choices.values(), row.runs,
            *(row.show(of) for of in columns), *(_published(row) if paper else []),
        ]
        for row in found
    ]  # fmt: skip
    return "\n".join(f"| {' | '.join(map(_plain, line))} |" for line in [head, ["---"] * len(head), *body])


def _published(row: Row) -> list[str]:
    values = [getattr(row.paper, key) if row.paper else None for key in _PAPER]
    return ["" if value is None else str(value) for value in values]


def _raw(run: Run, keys: list[str]) -> list[Any]:
    """Values as the summary has them."""
    summary = run.summary or {}
    return [(summary.get("metrics") or {}).get(key, summary.get(key)) for key in keys]


def _plain(text: str) -> str:
    """Text that neither breaks a table nor becomes HTML."""
    return " ".join(text.replace("|", "\\|").replace("<", "&lt;").split())
