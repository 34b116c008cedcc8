"""The folder of `--output`: only earlier results of the same command may be replaced."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shvit_pl.command_line.checks import check_writable
from shvit_pl.errors import UserError
from shvit_pl.files import replacing, write_rows

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def holds_results(folder: Path, are_ours: Callable[[Path], bool]) -> bool:
    """Return whether there are earlier results.

    Args:
        folder: The folder; it may be missing or empty.
        are_ours: Returns whether a folder's files are results of the same command.

    Raises:
        UserError: where nothing can be written, and where other files are in the folder.
    """
    check_writable("--output", str(folder))
    if not folder.exists() or not any(folder.iterdir()):
        return False
    if not are_ours(folder):
        raise UserError(f"--output {str(folder)!r}: it holds other files; give a new folder.")
    return True


def write_results(
    folder: Path,
    table: tuple[str, Sequence[Mapping[str, Any]]],
    facts: tuple[str, Mapping[str, Any]],
    figures: Mapping[str, Figure],
    dpi: int = 160,
) -> None:
    """Write the folder of a measurement at once; earlier results in it are replaced.

    Args:
        folder: The folder.
        table: Name of a CSV file, and its rows, at least one.
        facts: Name of a JSON file, and its content.
        figures: Pictures by file name.
        dpi: Resolution of the pictures.
    """
    from shvit_pl.display.plots import as_png

    with replacing(folder) as partial:
        partial.mkdir(parents=True)
        write_rows(partial / table[0], table[1])
        (partial / facts[0]).write_text(json.dumps(facts[1], indent=2) + "\n")
        for name, figure in figures.items():
            (partial / name).write_bytes(as_png(figure, dpi=dpi))
