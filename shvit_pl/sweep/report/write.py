"""All files of a report, each whole or not at all."""

from __future__ import annotations

from pathlib import Path

from shvit_pl.files import write_whole
from shvit_pl.runs.folder import FIGURES
from shvit_pl.sweep.report.figures import draw_figures
from shvit_pl.sweep.report.findings import findings_of
from shvit_pl.sweep.report.page import render
from shvit_pl.sweep.report.tables import markdown, runs_csv
from shvit_pl.sweep.results import Results

PAGE = "report.html"


def write_report(results: Results, folder: Path) -> list[Path]:
    """Write the page, the tables and the figures of a sweep, finished or not.

    Args:
        results: What the sweep has found so far.
        folder: The sweep's; links in the page are relative to it.

    Returns:
        The files: `report.html`, `results.csv`, `results.md`, and of `figures/*.png` those that there is data for.
    """
    found = findings_of(results)
    texts = {PAGE: render(found), "results.csv": runs_csv(found), "results.md": markdown(found)}
    files = {name: text.encode() for name, text in texts.items()}
    files |= {f"{FIGURES}/{name}": image for name, image in draw_figures(found).items()}
    return [write_whole(folder / name, content) for name, content in files.items()]
