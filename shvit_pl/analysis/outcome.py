"""The folder of a study that measures: a CSV, a JSON and a picture, all named after it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from shvit_pl.deploy.output import holds_results
from shvit_pl.display.plots import as_png
from shvit_pl.files import replacing, write_rows

_SUFFIXES = (".csv", ".json", ".png")


def check_output(output: str, study: str) -> Path:
    """The folder of the results.

    Raises:
        UserError: where nothing can be written, and where other files are in it.
    """
    folder = Path(output).expanduser()
    ours = {f"{study}{suffix}" for suffix in _SUFFIXES}
    holds_results(folder, lambda there: {path.name for path in there.iterdir()} <= ours)
    return folder


def write(
    folder: Path, study: str, rows: Sequence[Mapping[str, Any]], facts: Mapping[str, Any], figure: Figure
) -> None:
    """Write the folder at once.

    Args:
        folder: Where; earlier results in it are replaced.
        study: Its name, which is that of the files.
        rows: Of the table, at least one.
        facts: All else that is known; `rows` are added.
        figure: The picture.
    """
    with replacing(folder) as new:
        new.mkdir(parents=True)
        write_rows(new / f"{study}.csv", rows)
        (new / f"{study}.json").write_text(json.dumps({**facts, "rows": list(rows)}, indent=2) + "\n")
        (new / f"{study}.png").write_bytes(as_png(figure, dpi=200))


def rounded(value: float | None, digits: int = 4) -> float | None:
    """A number of a table; `None` stays."""
    return None if value is None else round(value, digits)
