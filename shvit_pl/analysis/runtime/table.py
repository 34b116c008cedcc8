"""The table of the study, as it is printed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from shvit_pl.analysis.running import described
from shvit_pl.analysis.runtime.kinds import ALL_BUT_PRODUCTS, KINDS
from shvit_pl.analysis.runtime.rows import Measured
from shvit_pl.display.terminal import narrow_table, table_console

_COLUMNS = (*KINDS, ALL_BUT_PRODUCTS)
_SHOWN = 1.0  # percent of other work above which its operators are named


def describe(conditions: Mapping[str, Any]) -> str:
    """The conditions in two lines."""
    scopes = {
        "attention": "the attention part of the blocks (all that a block does but for its FFN and that one's norm)",
        "network": "the whole network",
    }
    return (
        f"{described(conditions, 'on ')}\n"
        f"{scopes[conditions['scope']]}; fused attention is switched off; "
        f"median of {conditions['repeats']} profiled passes"
    )


def print_table(every: Sequence[Measured]) -> None:
    """Print what was found, the paper's figure and the difference."""
    table = narrow_table(("", "percent of the time"), ("ms", *_COLUMNS, "middle half"))
    table.columns[3].no_wrap = False  # matrix product, the longest name
    for each in every:
        for cells in _lines(each):
            table.add_row(*cells)
        table.add_section()
    table_console().print(table)
    print("\n".join(_notes(every)))


def _lines(each: Measured) -> Iterator[list[str]]:
    low, high = each.shares.quartiles[ALL_BUT_PRODUCTS]
    yield [
        each.name,
        "here",
        f"{each.shares.milliseconds:.3g}",
        *(f"{each.percent[name]:.1f}" for name in _COLUMNS),
        f"{low:.1f}-{high:.1f}",
    ]
    if each.paper is not None:
        yield [
            "",
            f"paper: {each.paper.attention}, {each.paper.network}",
            "",
            *(_or_nothing(each.paper_percent.get(name), ".1f") for name in _COLUMNS),
        ]
        yield ["", "difference", "", *(_or_nothing(each.difference.get(name), "+z.1f") for name in _COLUMNS)]


def _or_nothing(value: float | None, how: str) -> str:
    return "" if value is None else format(value, how)


def _notes(every: Sequence[Measured]) -> Iterator[str]:
    for each in every:
        yield f"measured of {each.name}: {each.shares.scope}"
    yield "ms: of these operators in a pass; Python's own time between them is in no column"
    yield "memory-bound: all but matrix products; middle half: where that of its passes lies"
    if any(each.paper for each in every):
        yield (
            "paper: Fig. 7, whose device, batch size, image size and profiler are not printed; differences are "
            "percentage points"
        )
    for each in every:
        if each.percent["other"] > _SHOWN:
            yield f"other, of {each.name}: {', '.join(_unknown(each))}"


def _unknown(each: Measured) -> list[str]:
    """The largest operators of no known kind."""
    of_other = {name: percent for (name, kind), percent in each.shares.operators.items() if kind == "other"}
    return [f"{name} {percent:.1f} %" for name, percent in list(of_other.items())[:4]]
