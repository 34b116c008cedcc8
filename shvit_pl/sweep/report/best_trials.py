"""What a search found: its best trials, in words."""

from __future__ import annotations

from shvit_pl.display.words import counted
from shvit_pl.sweep.report.findings import Findings
from shvit_pl.sweep.report.quantities import Quantity, quantity
from shvit_pl.sweep.report.rows import Row

_SHOWN = 3
_LUCK = "The best of many is partly luck: repeat it with other seeds before you rely on it."


def search_sentences(found: Findings) -> list[str]:
    """The best trials, or the front of two objectives."""
    return _front(found) if len(found.results.objectives) > 1 else _best(found)


def _best(found: Findings) -> list[str]:
    key, direction = next(iter(found.results.objectives.items()), (found.primary.key, "max"))
    of = quantity(key, direction)
    known = [row for row in found.rows if key in row.values]
    ranked = sorted(known, key=lambda row: row.values[key].mean, reverse=direction == "max")
    if not ranked:
        return [f"No trial has {of.name} yet."]
    next_ones = [f"{_named(row)}, {_value(row, of)}" for row in ranked[1:_SHOWN]]
    return [
        f"Best of {counted(len(ranked), 'trial')} in {of.name}: {_named(ranked[0])}, {_value(ranked[0], of)}.",
        *([f"Next: {'; '.join(next_ones)}."] if next_ones else []),
        _LUCK,
    ]


def _front(found: Findings) -> list[str]:
    x, y = found.plane.across.quantity, found.plane.up.quantity
    front = found.plane.front
    if not front:
        return [f"No trial has {y.name} and {x.name} yet."]
    ends = [front[0], front[-1]] if len(front) > 1 else front
    shown = "; to ".join(f"{_named(one.row)}, {_value(one.row, y)}, {_value(one.row, x)} {x.name}" for one in ends)
    count = f"{len(front)} {'is' if len(front) == 1 else 'are'}"
    return [
        f"Of {counted(len(found.plane.dots), 'trial')}, {count} not beaten in {y.name} and {x.name} at once: "
        f"{'from ' if len(front) > 1 else ''}{shown}.",
        *([f"Compared are {found.plane.left_out}."] if found.plane.left_out else []),
        _LUCK,
    ]


def _named(row: Row) -> str:
    choices = ", ".join(f"{name} {level}" for name, level in row.choices.items())
    return f"no. {row.number} ({choices or row.cell.name})"


def _value(row: Row, of: Quantity) -> str:
    return f"{row.show(of)} {of.unit}".strip()
