"""Writing a report."""

from __future__ import annotations

from pathlib import Path

from shvit_pl.sweep.results import Results


def write_report(results: Results, folder: Path) -> list[Path]:
    """Write it."""
    (folder / "report.html").write_text(results.title)
    return [folder / "report.html"]


def summary_lines(results: Results) -> list[str]:
    """What it says."""
    return [results.title]
