"""An earlier benchmark: it is compared with, or replaced, only if it was measured under the same conditions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shvit_pl.deploy.benchmark.cells import Cell, Group
from shvit_pl.deploy.benchmark.files import ROWS, is_benchmark, read_conditions
from shvit_pl.deploy.benchmark.rows import Key, key
from shvit_pl.deploy.measuring import condition_differences
from shvit_pl.deploy.output import holds_results
from shvit_pl.errors import UserError, one_line
from shvit_pl.files import read_rows


@dataclass(frozen=True)
class Earlier:
    """An earlier benchmark under the conditions of this one.

    Attributes:
        folder: Where it is.
        rates: Images per second by row.
    """

    folder: Path
    rates: Mapping[Key, float]

    def check_rows(self, groups: Iterable[Group]) -> None:
        """Raise `UserError` where no row of this benchmark was measured there."""
        cells = [cell for group in groups for cell in group.cells]
        if not any(_key(cell) in self.rates for cell in cells):
            there = ", ".join(next(iter(self.rates), ("none",)))
            raise UserError(
                f"--compare {str(self.folder)!r}: it has none of these rows. Here the first is "
                f"{', '.join(_key(cells[0]))}, there it is {there} (model, runtime, mode, dtype, batch, pixels)."
            )

    def ratios(self, rows: Sequence[Mapping[str, Any]]) -> list[float | None]:
        """Images per second of each row over the earlier ones; `None` where it was not measured there."""
        return [row["images_per_second"] / self.rates[key(row)] if key(row) in self.rates else None for row in rows]


def read_earlier(folder: Path, conditions: Mapping[str, Any]) -> Earlier:
    """Read an earlier benchmark.

    Raises:
        UserError: for a folder that holds none, and where it was measured under other conditions.
    """
    flag = f"--compare {str(folder)!r}"
    try:
        theirs = read_conditions(folder)
        rates = {key(row): float(row["images_per_second"]) for row in read_rows(folder / ROWS)}
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise UserError(f"{flag}: no whole benchmark is there ({one_line(error)[:120]}). Give its folder.") from error
    differs = condition_differences(conditions, theirs)
    if differs:
        raise UserError(f"{flag}: measured under other conditions, so nothing may be compared: {differs}.")
    return Earlier(folder, rates)


def check_output(folder: Path, conditions: Mapping[str, Any]) -> None:
    """Raise `UserError` where a benchmark can't be written: no access, other files, or other conditions."""
    if not holds_results(folder, is_benchmark):
        return
    flag = f"--output {str(folder)!r}"
    try:
        differs = condition_differences(conditions, read_conditions(folder))
    except (ValueError, LookupError, TypeError) as error:
        raise UserError(f"{flag}: its environment.json is damaged; give a new folder.") from error
    if differs:
        raise UserError(f"{flag}: it holds a benchmark under other conditions: {differs}. Give a new folder.")


def _key(cell: Cell) -> Key:
    return cell.model, cell.runtime, cell.mode, cell.dtype, str(cell.batch), str(cell.pixels)
