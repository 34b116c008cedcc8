"""The folder of a benchmark: `benchmark.csv`, `environment.json`, and pictures."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from shvit_pl.display.plots import as_png
from shvit_pl.files import replacing, write_rows

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
    with replacing(folder) as new:
        new.mkdir(parents=True)
        write_rows(new / ROWS, rows)
        (new / ENVIRONMENT).write_text(json.dumps(environment, indent=2) + "\n")
        for name, figure in figures.items():
            (new / name).write_bytes(as_png(figure))


def is_benchmark(folder: Path) -> bool:
    """Whether a folder holds a benchmark, and nothing else."""
    ours = {ROWS, ENVIRONMENT, *(path.name for path in folder.glob(PICTURE))}
    return (folder / ENVIRONMENT).is_file() and {path.name for path in folder.iterdir()} <= ours


def read_conditions(folder: Path) -> dict[str, Any]:
    """The conditions of an earlier benchmark; raises what reading a damaged file raises."""
    return dict(json.loads((folder / ENVIRONMENT).read_text())["conditions"])
