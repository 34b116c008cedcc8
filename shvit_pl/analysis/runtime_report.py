"""`shvit-pl analyze runtime`: profile networks, print and draw the shares beside the paper's Fig. 7 (`fig7.csv`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from timm.models.shvit import SHViT as TimmSHViT

from shvit_pl.analysis.options import RuntimeOptions
from shvit_pl.analysis.ready_network import condition_words, conditions, device_errors, ready_networks
from shvit_pl.analysis.runtime import KINDS, MEMORY_BOUND, MEMORY_BOUND_SUM, OPERATORS, Kind, Scope, Shares, measure
from shvit_pl.analysis.study_folder import check_output, rounded, write
from shvit_pl.deploy.measuring import origin
from shvit_pl.designs.named import timm_name
from shvit_pl.designs.published import row_at
from shvit_pl.display.plots import BLUE, GREEN, GREY, ORANGE, PURPLE, YELLOW
from shvit_pl.display.terminal import narrow_table, table_console
from shvit_pl.files import read_rows
from shvit_pl.models import SHViT
from shvit_pl.models.open_network import OpenedNetwork, open_network

_STUDY = "runtime"
_EXPLAINED = {
    "percent": "of the time of all operators in the scope: the median over the passes; those of "
    "all but matrix products are scaled, such that all add up to 100",
    "percent_q1, percent_q3": "where the middle half of the passes lies, not scaled",
    "paper_percent": "as printed in the paper's Fig. 7; its device, batch size, image size and profiler are "
    "not; beside networks of the paper at its image sizes",
    "difference": "in percentage points",
    "memory-bound": "all but matrix products",
    "time": "of an operator without those that it calls, in Python's own time between them none; on a GPU of kernels",
    "networks": "fused as they are deployed, NCHW; attention not fused, step by step",
    "kinds": {kind: " ".join(names.split()) for kind, names in OPERATORS.items()},
}


def run(options: RuntimeOptions, command: Sequence[str]) -> None:
    """Measure, print the table, and write the results.

    Args:
        options: What is measured, and how.
        command: The command line.

    Raises:
        UserError: for what is not here or can't be measured, before anything is written.
    """
    folder = check_output(options.output, _STUDY)
    with ready_networks(options, open_network, torch.contiguous_format) as networks:
        under = {"scope": options.scope, **conditions(options, networks)}
        print(describe(under), flush=True)
        with device_errors(f"profiling {' '.join(options.models)}"):
            shares = measure(networks, options.scope, options.repeats)
    results = [
        Comparison(network.opened.name, share, paper_bar(network.opened, network.pixels, options.scope))
        for network, share in zip(networks, shares, strict=True)
    ]
    print_table(results)
    facts = {
        "conditions": under,
        "explained": _EXPLAINED,
        "networks": {result.name: _network_facts(result.shares) for result in results},
        **origin(command),
    }
    write(folder, _STUDY, make_rows(results), facts, draw(results, under))
    print(f"written: {folder}")


def _network_facts(shares: Shares) -> dict[str, Any]:
    operators = [
        {"operator": name, "kind": kind, "percent": percent} for (name, kind), percent in shares.operators.items()
    ]
    return {"measured": shares.scope, "milliseconds": shares.milliseconds, "operators": operators}


def describe(conditions: Mapping[str, Any]) -> str:
    """Return the conditions in two lines."""
    scopes = {
        "attention": "the attention part of the blocks (all that a block does but for its FFN and that one's norm)",
        "network": "the whole network",
    }
    return (
        f"{condition_words(conditions, 'on ')}\n"
        f"{scopes[conditions['scope']]}; fused attention is switched off; "
        f"median of {conditions['repeats']} profiled passes"
    )


# ---- the paper's figure

_FILE = Path(__file__).with_name("fig7.csv")
_OURS = "SHSA"  # of which SHViT the paper's figure is, it does not say


@dataclass(frozen=True)
class PaperBar:
    """A bar of the figure."""

    attention: str
    """Kind of attention."""
    network: str
    """Name of the network in the paper."""
    networks: str
    """Pattern of the names of networks that are the same one; empty for SHViT, of which it may be any of S1 to S4."""
    percent: dict[Kind, float]
    """Share of the time, by kind of operation."""


def paper_bar(opened: OpenedNetwork, pixels: int, scope: Scope = "attention") -> PaperBar | None:
    """Return the paper's bar of a network's attention; `None` for networks and image sizes that are not the paper's.

    Args:
        opened: The network.
        pixels: Side of the images that it is measured with.
        scope: What of it is measured; the paper has nothing of whole networks.
    """
    if scope == "network":
        return None
    return next((bar for bar in paper_bars() if _is_of(bar, opened, pixels)), None)


@cache
def paper_bars() -> tuple[PaperBar, ...]:
    """Return the figure, bar by bar."""
    return tuple(
        PaperBar(
            row["attention"], row["network"], row["networks"], {kind: float(row[kind]) for kind in KINDS if kind in row}
        )
        for row in read_rows(_FILE)
    )


def _is_of(bar: PaperBar, opened: OpenedNetwork, pixels: int) -> bool:
    if isinstance(opened.model, SHViT):
        design = opened.model.design
        in_paper = timm_name(design) is not None and row_at(design, pixels) is not None
        return bar.attention == _OURS and in_paper
    is_same = fnmatch(opened.name, bar.networks) if bar.networks else isinstance(opened.model, TimmSHViT)
    return is_same and pixels == opened.image_size


# ---- rows and the table


@dataclass(frozen=True)
class Comparison:
    """A network's shares beside the paper's."""

    name: str
    """Name of the network on the command line."""
    shares: Shares
    """What was measured."""
    paper: PaperBar | None
    """The paper's bar of its attention, if any."""

    @property
    def percent(self) -> dict[str, float]:
        """Shares by kind, and of all but matrix products."""
        percent: dict[str, float] = dict(self.shares.percent.items())
        return percent | {MEMORY_BOUND_SUM: self.shares.memory_bound}

    @property
    def paper_percent(self) -> dict[str, float]:
        """The paper's shares by kind, and of all but matrix products; empty where the paper has none."""
        if self.paper is None:
            return {}
        percent: dict[str, float] = dict(self.paper.percent.items())
        return percent | {MEMORY_BOUND_SUM: sum(percent.get(kind, 0.0) for kind in MEMORY_BOUND)}

    @property
    def difference(self) -> dict[str, float]:
        """Ours less the paper's, in percentage points, where the paper has any."""
        return {name: self.percent[name] - percent for name, percent in self.paper_percent.items()}


def make_rows(results: Sequence[Comparison]) -> list[dict[str, Any]]:
    """Return the rows of `runtime.csv`: one for each network and kind of operation."""
    return [_row(result, kind) for result in results for kind in (*KINDS, MEMORY_BOUND_SUM)]


def _row(result: Comparison, kind: str) -> dict[str, Any]:
    low, high = result.shares.quartiles[kind]
    return {
        "network": result.name,
        "measured": result.shares.scope,
        "kind": kind,
        "percent": round(result.percent[kind], 3),
        "percent_q1": round(low, 3),
        "percent_q3": round(high, 3),
        "milliseconds": round(result.shares.milliseconds * result.percent[kind] / 100, 5),
        "paper": None if result.paper is None else f"{result.paper.attention}, {result.paper.network}",
        "paper_percent": rounded(result.paper_percent.get(kind), 3),
        "difference": rounded(result.difference.get(kind), 3),
    }


_COLUMNS = (*KINDS, MEMORY_BOUND_SUM)
_SHOWN = 1.0  # percent of other work above which its operators are named


def print_table(results: Sequence[Comparison]) -> None:
    """Print the shares, the paper's figure and the difference."""
    table = narrow_table(("", "percent of the time"), ("ms", *_COLUMNS, "middle half"))
    table.columns[3].no_wrap = False  # matrix product, the longest name
    for result in results:
        for cells in _lines(result):
            table.add_row(*cells)
        table.add_section()
    table_console().print(table)
    print("\n".join(_notes(results)))


def _lines(result: Comparison) -> Iterator[list[str]]:
    low, high = result.shares.quartiles[MEMORY_BOUND_SUM]
    numbers = [f"{result.percent[name]:.1f}" for name in _COLUMNS]
    yield [result.name, "here", f"{result.shares.milliseconds:.3g}", *numbers, f"{low:.1f}-{high:.1f}"]
    if result.paper is not None:
        paper, difference = result.paper_percent, result.difference
        yield [
            "",
            f"paper: {result.paper.attention}, {result.paper.network}",
            "",
            *(_or_nothing(paper.get(name), ".1f") for name in _COLUMNS),
        ]
        yield ["", "difference", "", *(_or_nothing(difference.get(name), "+z.1f") for name in _COLUMNS)]


def _or_nothing(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def _notes(results: Sequence[Comparison]) -> Iterator[str]:
    for result in results:
        yield f"measured of {result.name}: {result.shares.scope}"
    yield "ms: of these operators in a pass; Python's own time between them is in no column"
    yield "memory-bound: all but matrix products; middle half: where that of its passes lies"
    if any(result.paper for result in results):
        yield (
            "paper: Fig. 7, whose device, batch size, image size and profiler are not printed; differences are "
            "percentage points"
        )
    for result in results:
        if result.percent["other"] > _SHOWN:
            yield f"other, of {result.name}: {', '.join(_unknown_operators(result))}"


def _unknown_operators(result: Comparison) -> list[str]:
    """Return the largest operators of no known kind."""
    unknown = [(name, percent) for (name, kind), percent in result.shares.operators.items() if kind == "other"]
    return [f"{name} {percent:.1f} %" for name, percent in unknown[:4]]


# ---- the figure

_COLORS: dict[Kind, str] = dict(zip(KINDS, (BLUE, ORANGE, GREEN, PURPLE, YELLOW, GREY), strict=True))
_DARK = ("matrix product", "normalization")
_HEIGHT = 0.36
_LEAST_LABELED = 3.5  # percent: narrower segments have no room for their number
_LEAST_NAMED = 0.05  # percent of other work from which the legend has it
_PAPER: dict[str, Any] = {"hatch": "////", "alpha": 0.55}
_SPREAD: dict[str, Any] = {"color": "black", "linewidth": 1, "marker": "|", "markersize": 5}
_SPREAD_BELOW = 0.13  # the numbers


def draw(results: Sequence[Comparison], conditions: Mapping[str, Any]) -> Figure:
    """Draw stacked bars: two for each network, or one where the paper has none.

    Args:
        results: What was measured.
        conditions: Conditions of the measurement.
    """
    figure = Figure(figsize=(8.6, 1.7 + 0.95 * len(results)), layout="constrained")
    axes = figure.subplots()
    for row, result in enumerate(results):
        _draw_network(axes, row, result)
    axes.set_yticks(range(len(results)), [_label(result) for result in results], fontsize=8)
    axes.set_ylim(len(results) - 0.4, -0.6)
    axes.set_xlim(0, 100)
    scope = "the attention part of the blocks" if conditions["scope"] == "attention" else "the network"
    axes.set_xlabel(f"% of the time of all operators in {scope}", fontsize=8)
    axes.tick_params(axis="x", labelsize=8)
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
    _draw_legend(figure, axes, results)
    figure.suptitle(f"{condition_words(conditions)}; fused attention switched off", fontsize=9)
    return figure


def _draw_network(axes: Axes, row: int, result: Comparison) -> None:
    place = row if result.paper is None else row - _HEIGHT / 2 - 0.02
    _draw_bar(axes, place, result.percent, {})
    low, high = result.shares.quartiles[MEMORY_BOUND_SUM]
    axes.plot([100 - high, 100 - low], [place + _SPREAD_BELOW] * 2, **_SPREAD)
    text = f"memory-bound\n{result.percent[MEMORY_BOUND_SUM]:.1f} %"
    if result.paper is not None:
        _draw_bar(axes, row + _HEIGHT / 2 + 0.02, result.paper_percent, _PAPER)
        paper, difference = result.paper_percent[MEMORY_BOUND_SUM], result.difference[MEMORY_BOUND_SUM]
        text += f", paper {paper:.1f} %\n({difference:+z.1f})"
    axes.annotate(text, (100, row), xytext=(6, 0), textcoords="offset points", fontsize=7.5, va="center")


def _draw_bar(axes: Axes, place: float, percent: Mapping[str, float], style: Mapping[str, Any]) -> None:
    left = 0.0
    for kind in KINDS:
        width = percent.get(kind, 0.0)
        axes.barh(place, width, _HEIGHT, left, color=_COLORS[kind], edgecolor="white", linewidth=0.6, **style)
        if width >= _LEAST_LABELED:
            color = "white" if kind in _DARK and not style else "black"
            axes.text(left + width / 2, place, f"{width:.1f}", ha="center", va="center", fontsize=7, color=color)
        left += width


def _draw_legend(figure: Figure, axes: Axes, results: Sequence[Comparison]) -> None:
    other = any(result.percent["other"] >= _LEAST_NAMED for result in results)
    kinds = [kind for kind in KINDS if kind != "other" or other]
    handles: list[Any] = [axes.barh(0, 0, color=_COLORS[kind], label=kind) for kind in kinds]
    if any(result.paper for result in results):
        handles.append(axes.barh(0, 0, color="0.6", edgecolor="white", label="hatched: the paper's Fig. 7", **_PAPER))
    handles += axes.plot([], [], label="middle half of the passes", **_SPREAD)
    figure.legend(handles=handles, loc="outside lower center", ncols=4, fontsize=7.5, frameon=False)


def _label(result: Comparison) -> str:
    name = result.name.removeprefix("timm:")
    return name if result.paper is None else f"{name}\n({result.paper.attention})"
