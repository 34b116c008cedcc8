"""The best run of a sweep, which is the one that is pushed."""

from pathlib import Path
from statistics import mean

from shvit_pl.errors import UserError
from shvit_pl.runs.folder import SUMMARY, SweepChoice, better
from shvit_pl.sweep.engine.reading import results_of
from shvit_pl.sweep.plan.definition import monitor, value_of
from shvit_pl.sweep.report.findings import findings_of
from shvit_pl.sweep.report.write import cells_markdown
from shvit_pl.sweep.results import Cell, Results, Run


def best_run(folder: Path) -> tuple[Path, SweepChoice]:
    """Return the folder of a sweep's best run, and the text and table about the sweep for its card.

    Raises:
        UserError: where no run has ended, or the best one is on another machine.
    """
    results = results_of(folder)
    picked = pick(results)
    if picked is None:
        raise UserError(f"{str(folder)!r}: no run of this sweep has ended with a result yet. Wait for its end.")
    cell, run, score = picked
    if run.folder is None or not (folder / run.folder / SUMMARY).is_file():
        raise UserError(
            f"{str(folder)!r}: the best run, {run.folder}, is not on this machine. Push from the machine that ran it."
        )
    which = f"the best of its {len(cell.done)} seeds" if len(cell.done) > 1 else "its only run"
    reason = (
        f"This run is from the sweep `{results.title}`, which compared {len(results.cells)} choices. It has the choice "
        f"with the best mean `{monitor(results.objectives)}`, *{cell.name}*, and is {which} (seed {run.seed}, "
        f"{score:.4f}). Selected from so many, it is slightly optimistic."
    )
    choices = [each.choices for each in results.cells]
    return folder / run.folder, SweepChoice(reason, cells_markdown(findings_of(results)), choices)


def pick(results: Results) -> tuple[Cell, Run, float] | None:
    """Return the best cell, its best run and that run's value; None where no run has ended.

    Cells are compared by their mean over seeds, as the best of all runs might just be a lucky one.
    """
    objective = monitor(results.objectives)
    sign = -1.0 if better(objective) == "min" else 1.0
    scored: list[tuple[Cell, list[tuple[Run, float]]]] = []
    for cell in results.cells:
        values = [(run, value_of(run.summary, objective)) for run in cell.done if run.summary is not None]
        if known := [(run, value) for run, value in values if value is not None]:
            scored.append((cell, known))
    if not scored:
        return None
    cell, runs = max(scored, key=lambda pair: sign * mean(value for _, value in pair[1]))
    return cell, *max(runs, key=lambda pair: sign * pair[1])
