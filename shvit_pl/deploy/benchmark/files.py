"""The folder of a benchmark: `benchmark.csv`, `environment.json`, and pictures."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Mapping, Sequence
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
    """Write the folder at once: it is there whole, or as it was before.

    Args:
        folder: Where; an earlier benchmark in it is replaced.
        rows: As `make_rows` gives them, at least one.
        environment: As it is in `environment.json`.
        figures: By file name.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        new = partial / "new"
        new.mkdir()
        _fill(new, rows, environment, figures)
        if folder.exists():
            folder.replace(partial / "old")
        new.replace(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _fill(
    folder: Path, rows: Sequence[Mapping[str, Any]], environment: Mapping[str, Any], figures: Mapping[str, Figure]
) -> None:
    with (folder / ROWS).open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    (folder / ENVIRONMENT).write_text(json.dumps(environment, indent=2) + "\n")
    for name, figure in figures.items():
        figure.savefig(folder / name, dpi=160)


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
