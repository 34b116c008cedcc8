"""The best run of a sweep, which is the one that is pushed."""

from __future__ import annotations

from pathlib import Path
from statistics import mean

from shvit_pl.errors import UserError
from shvit_pl.runs.finished_run import SweepChoice
from shvit_pl.runs.folder import SUMMARY
from shvit_pl.runs.metrics import better
from shvit_pl.sweep.engine.reading import results_of
from shvit_pl.sweep.plan.definition import monitor, value_of
from shvit_pl.sweep.report.findings import findings_of
from shvit_pl.sweep.report.write import cells_markdown
from shvit_pl.sweep.results import Cell, Results, Run


def best_run(folder: Path) -> tuple[Path, SweepChoice]:
    """Return the best run of the best cell of a sweep, by the metric of its best checkpoints.

    Cells are compared by their mean over seeds, for the best of all runs might just be a lucky one.

    Args:
        folder: The sweep's.

    Returns:
        The run's folder, and the text and table about the sweep for its card.

    Raises:
        UserError: where no run has ended, or the best one is on another machine.
    """
    results = results_of(folder)
    picked = pick(results)
    if picked is None:
        raise UserError(f"{str(folder)!r}: no run of this sweep has ended with a result yet. Wait for its end.")
    cell, run, score = picked
    table = cells_markdown(findings_of(results))
    choices = [each.choices for each in results.cells]
    return _folder(folder, run), SweepChoice(_how(results, cell, run, score), table, choices)


def pick(results: Results) -> tuple[Cell, Run, float] | None:
    """Return the best cell by its mean, its best run and that run's value; None where no run has ended."""
    objective = monitor(results.objectives)
    sign = -1.0 if better(objective) == "min" else 1.0
    scored = [(cell, _scores(cell, objective)) for cell in results.cells]
    known = [(cell, runs) for cell, runs in scored if runs]
    if not known:
        return None
    cell, runs = max(known, key=lambda pair: sign * mean(score for _, score in pair[1]))
    return cell, *max(runs, key=lambda pair: sign * pair[1])


def _scores(cell: Cell, objective: str) -> list[tuple[Run, float]]:
    found = [(run, value_of(run.summary, objective)) for run in cell.done if run.summary is not None]
    return [(run, score) for run, score in found if score is not None]


def _folder(sweep: Path, run: Run) -> Path:
    folder = sweep / (run.folder or "")
    if run.folder is None or not (folder / SUMMARY).is_file():
        raise UserError(
            f"{str(sweep)!r}: the best run, {run.folder}, is not on this machine. Push it from the machine that ran it."
        )
    return folder


def _how(results: Results, cell: Cell, run: Run, score: float) -> str:
    objective = monitor(results.objectives)
    runs = f"the best of its {len(cell.done)} seeds" if len(cell.done) > 1 else "its only run"
    return (
        f"This is a run of the sweep `{results.title}`, which compared {len(results.cells)} choices. Picked was the "
        f"choice with the best mean `{objective}`, *{cell.name}*, and of it {runs} (seed {run.seed}, {score:.4f}): "
        "picked from so many, it looks a little better than it is."
    )
