"""The end of a sweep: inference speed, the report, and the best run, which is the one that is pushed."""

from pathlib import Path
from typing import Any

import numpy as np

from shvit_pl.display import new_progress, plain_console, say
from shvit_pl.errors import UserError, visible
from shvit_pl.runs.folder import SUMMARY, SweepChoice, better
from shvit_pl.sweep.definition import Definition, monitor
from shvit_pl.sweep.engine.reading import Cell, Results, Run, read_results, results_of
from shvit_pl.sweep.engine.study import SPEED, SweepStudy
from shvit_pl.sweep.report import table, text
from shvit_pl.sweep.report.findings import best_first, findings_of
from shvit_pl.sweep.report.write import PAGE, cells_markdown, write_report

_MOST_OF_A_SEARCH = 8  # trials whose inference speed is measured: the best ones


def finish(study: SweepStudy, definition: Definition, folder: Path, speed: bool, gpu: str | None, plain: bool) -> None:
    """Report; where `speed` is set and cells lack their inference speed, measure it and report again.

    The GPU with the number `gpu` measures; without one the first, or the CPU.
    """
    results = read_results(study, definition, folder)
    summaries = summaries_to_measure(results) if speed else {}
    if summaries and set(summaries) != set((results.speed or {}).get("cells", {})):
        write_report(findings_of(results), folder)  # what is known, before this takes its minutes
        measured = _measure(summaries, f"cuda:{gpu}" if gpu is not None else None, plain)
        study.optuna_study.set_user_attr(SPEED, measured)
        results = read_results(study, definition, folder)
    _report(results, folder)


def report_on(folder: str) -> None:
    """Write the report of the sweep in a folder."""
    _report(results_of(Path(folder)), Path(folder))


def _report(results: Results, folder: Path) -> None:
    findings = findings_of(results)
    write_report(findings, folder)
    say(*text.summary_lines(findings))
    say(f"report: {folder / PAGE}")


def summaries_to_measure(results: Results) -> dict[str, dict[str, Any]]:
    """Return a summary of each cell that has one; for a search, of the best trials only, from the Pareto front on.

    What is measured are networks that classify; of detectors, there is none.
    """
    first = {cell.name: cell.done[0] for cell in results.cells if cell.done}
    known = {
        name: run.summary
        for name, run in first.items()
        if run.summary is not None and run.summary.get("task", "classification") == "classification"
    }
    if results.kind != "search":
        return known
    names, objectives = list(known), results.objectives
    reached = np.array([[table.run_value(first[name], key) for key in objectives] for name in names], dtype=float)
    best = best_first(reached, tuple(objectives.values()), _MOST_OF_A_SEARCH)
    return {names[index]: known[names[index]] for index in best}


def _measure(summaries: dict[str, dict[str, Any]], device: str | None, plain: bool) -> dict[str, Any]:
    """Measure inference speed by cell."""
    from shvit_pl.sweep.speed import measure_speed  # torch, which `report` does without

    say(f"measuring the inference speed of {len(summaries)} cells (skip it with --speed false)")
    with new_progress(plain_console(quiet=plain)) as bar:
        task = bar.add_task("")
        return measure_speed(
            summaries,
            device,
            lambda step, done, total: bar.update(task, description=visible(step), completed=done, total=total),
        )


def best_run(folder: Path) -> tuple[Path, SweepChoice]:
    """Return the folder of a sweep's best run, and the text and table about the sweep for its card.

    Raises `UserError` where no run has ended, or the best one's folder is gone.
    """
    results = results_of(folder)
    picked = pick(results)
    if picked is None:
        raise UserError(f"{str(folder)!r}: no run of this sweep has finished yet; push later.")
    cell, run, score = picked
    if run.folder is None or not (folder / run.folder / SUMMARY).is_file():
        raise UserError(
            f"{str(folder)!r}: the best run, {run.folder}, is not in the folder any more. Push another one."
        )
    which = (
        f"the best of its {len(cell.done)} {'runs' if results.folds else 'seeds'}"
        if len(cell.done) > 1
        else "its only run"
    )
    reason = (
        f"This run is from the sweep '{results.title}', which compared {len(results.cells)} choices. It has the choice "
        f"with the best mean {monitor(results.objectives)}, '{cell.name}', and is {which} ({run.label}, "
        f"{score:.4f}). As the best of many, this value is slightly optimistic."
    )
    choices = [each.choices for each in results.cells]
    return folder / run.folder, SweepChoice(reason, cells_markdown(findings_of(results)), choices)


def pick(results: Results) -> tuple[Cell, Run, float] | None:
    """Return the cell with the best mean over seeds, its best run and that run's value; None where no run has ended."""
    objective = monitor(results.objectives)
    direction = better(objective)
    scored = dict[str, list[tuple[Run, float]]]()
    for cell in results.cells:
        values = ((run, table.run_value(run, objective)) for run in cell.done)
        scored[cell.name] = [(run, value) for run, value in values if value is not None]

    def rank(pairs: list[tuple[Run, float]]) -> tuple[float, float]:
        return table.rank_of([run for run, _ in pairs], objective, direction)

    known = [cell for cell in results.cells if scored[cell.name]]
    best = min(known, key=lambda cell: rank(scored[cell.name]), default=None)
    return None if best is None else (best, *min(scored[best.name], key=lambda pair: rank([pair])))
