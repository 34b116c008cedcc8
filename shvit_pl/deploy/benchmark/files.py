"""The folder of a benchmark: `benchmark.csv`, `environment.json`, and pictures."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from matplotlib.figure import Figure

ROWS = "benchmark.csv"
ENVIRONMENT = "environment.json"
PICTURE = "accuracy*.png"


def write(
    folder: Path, rows: Sequence[Mapping[str, Any]], environment: Mapping[str, Any], figures: Mapping[str, Figure]
) -> None:
    """Write the folder of a benchmark.

    Args:
        folder: Where; an earlier benchmark in it is replaced.
        rows: As `make_rows` gives them, at least one.
        environment: As it is in `environment.json`.
        figures: By file name.
    """
    replace_folder(folder, lambda new: _fill(new, rows, environment, figures))


def replace_folder(folder: Path, fill: Callable[[Path], None]) -> None:
    """Make a folder at once: it is there whole, or as it was before.

    Args:
        folder: Where; what is in it is replaced.
        fill: Writes the files into an empty folder.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        new = partial / "new"
        new.mkdir()
        fill(new)
        if folder.exists():
            folder.replace(partial / "old")
        new.replace(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _fill(
    folder: Path, rows: Sequence[Mapping[str, Any]], environment: Mapping[str, Any], figures: Mapping[str, Figure]
) -> None:
    write_rows(folder / ROWS, rows)
    (folder / ENVIRONMENT).write_text(json.dumps(environment, indent=2) + "\n")
    for name, figure in figures.items():
        figure.savefig(folder / name, dpi=160)


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write a CSV whose columns are the first row's keys."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def is_benchmark(folder: Path) -> bool:
    """Whether a folder holds a benchmark, and nothing else."""
    ours = {ROWS, ENVIRONMENT, *(path.name for path in folder.glob(PICTURE))}
    return (folder / ENVIRONMENT).is_file() and {path.name for path in folder.iterdir()} <= ours


def read_rows(folder: Path) -> list[dict[str, str]]:
    """The rows of an earlier benchmark, as text."""
    with (folder / ROWS).open(newline="") as file:
        return list(csv.DictReader(file))


def read_conditions(folder: Path) -> dict[str, Any]:
    """The conditions of an earlier benchmark; raises what reading a damaged file raises."""
    return dict(json.loads((folder / ENVIRONMENT).read_text())["conditions"])
