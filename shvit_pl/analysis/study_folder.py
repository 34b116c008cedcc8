"""The folder of a study: which files in it are results, and what they hold."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from shvit_pl.deploy.measuring import holds_results, write_results


def check_output(output: str, study: str, is_result: Callable[[Path], bool] | None = None) -> Path:
    """Return the folder of the results.

    Args:
        output: The folder, which may be missing or empty.
        study: Name of the study.
        is_result: Returns whether a file, by its path in the folder, is a result of the study (default: a file of
            `write`).

    Raises:
        UserError: where nothing can be written, and where other files are in it.
    """
    folder = Path(output).expanduser()
    names = {f"{study}{suffix}" for suffix in (".csv", ".json", ".png")}

    def are_results(there: Path) -> bool:
        files = [path.relative_to(there) for path in there.rglob("*") if not path.is_dir()]
        return all(is_result(file) if is_result else str(file) in names for file in files)

    holds_results(folder, are_results)
    return folder


def write(
    folder: Path, study: str, rows: Sequence[Mapping[str, Any]], facts: Mapping[str, Any], figure: Figure
) -> None:
    """Write a CSV, a JSON and a picture, all named after the study; earlier results are replaced.

    Args:
        folder: The folder.
        study: Name of the study.
        rows: Rows of the table, at least one.
        facts: All else that is known; `rows` are added.
        figure: The picture.
    """
    all_facts = {**facts, "rows": list(rows)}
    write_results(folder, (f"{study}.csv", rows), (f"{study}.json", all_facts), {f"{study}.png": figure}, dpi=200)


def rounded(value: float | None, digits: int = 4) -> float | None:
    """Round a number of a table; `None` stays."""
    return None if value is None else round(value, digits)
