"""What a search found: its best trials, in words."""

from __future__ import annotations

from shvit_pl.sweep.report.axes import dots, front_line, plane
from shvit_pl.sweep.report.quantities import Quantity, primary, quantity
from shvit_pl.sweep.report.rows import Row, rows
from shvit_pl.sweep.results import Results

_SHOWN = 3
_LUCK = "The best of many is partly luck: repeat it with other seeds before you rely on it."


def search_sentences(results: Results) -> list[str]:
    """The best trials, or the front of two objectives."""
    found = [row for row in rows(results) if row.done]
    return _front(results, found) if len(results.objectives) > 1 else _best(results, found)


def _best(results: Results, found: list[Row]) -> list[str]:
    key, direction = next(iter(results.objectives.items()), (primary(results).key, "max"))
    of = quantity(key, direction)
    ranked = sorted(
        (row for row in found if key in row.values), key=lambda row: row.values[key].mean, reverse=direction == "max"
    )
    if not ranked:
        return [f"No trial has {of.name} yet."]
    next_ones = [f"{_named(row)}, {_value(row, of)}" for row in ranked[1:_SHOWN]]
    return [
        f"Best of {len(ranked)} trials in {of.name}: {_named(ranked[0])}, {_value(ranked[0], of)}.",
        *([f"Next: {'; '.join(next_ones)}."] if next_ones else []),
        _LUCK,
    ]


def _front(results: Results, found: list[Row]) -> list[str]:
    across, up = plane(results)
    known = dots(found, across, up)
    front = front_line(known)
    x, y = across.quantity, up.quantity
    if not front:
        return [f"No trial has {y.name} and {x.name} yet."]
    ends = [front[0], front[-1]] if len(front) > 1 else front
    shown = "; to ".join(f"{_named(one.row)}, {_value(one.row, y)}, {_value(one.row, x)} {x.name}" for one in ends)
    count = f"{len(front)} {'is' if len(front) == 1 else 'are'}"
    return [
        f"Of {len(known)} trials, {count} not beaten in {y.name} and {x.name} at once: "
        f"{'from ' if len(front) > 1 else ''}{shown}.",
        _LUCK,
    ]


def _named(row: Row) -> str:
    choices = ", ".join(f"{name} {level}" for name, level in row.choices.items())
    return f"no. {row.number} ({choices or row.cell.name})"


def _value(row: Row, of: Quantity) -> str:
    return f"{row.show(of)} {of.unit}".strip()
