"""`shvit-pl analyze runtime`: profile networks, print and draw the shares beside the paper's Fig. 7 (`fig7.csv`)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from timm.models.shvit import SHViT as TimmSHViT

from shvit_pl import files, plots
from shvit_pl.analysis import study
from shvit_pl.analysis.command import RuntimeOptions, Scope
from shvit_pl.analysis.runtime import KINDS, MEMORY_BOUND, OPERATORS, Shares, measure
from shvit_pl.deploy.measuring import origin
from shvit_pl.designs.paper_results import row_at
from shvit_pl.display import narrow_table, say, write_table
from shvit_pl.models import SHViT
from shvit_pl.models.open_network import OpenedNetwork, open_network

_EXPLAINED = {
    "percent": "of the time of all operators in the scope: the median over the passes; those of "
    "all but matrix products are scaled, such that all add up to 100",
    "percent_q1, percent_q3": "first and third quartile of the passes, not scaled",
    "paper_percent": "as printed in the paper's Fig. 7; its device, batch size, image size and profiler are "
    "not; beside networks of the paper at its image sizes",
    "difference": "in percentage points",
    "memory-bound": "all but matrix products",
    "time": "of an operator without those that it calls, and without Python's own time; on a GPU of its kernels",
    "networks": "fused as for deployment, NCHW; fused attention is switched off",
    "kinds": {kind: " ".join(names.split()) for kind, names in OPERATORS.items()},
}
_SCOPES = {
    "attention": "the attention part of the blocks (all of a block except its FFN and the FFN's norm)",
    "network": "the whole network",
}


def run(options: RuntimeOptions, command: Sequence[str]) -> None:
    """Measure, print a table, and write the results, with the command line `command`.

    Raises `UserError` for what is not here or can't be measured, before anything is written.
    """
    folder = files.output_folder(options.output, "runtime.csv", "runtime.json", "runtime.png")
    with study.ready_networks(options, open_network, torch.contiguous_format) as (networks, conditions):
        scope = _SCOPES[options.scope]
        say(f"{scope}; fused attention is switched off; median of {options.repeats} profiled passes")
        shares = measure(networks, options.scope, options.repeats)
    results = [
        Comparison(network.name, share, paper_bar(network.opened, network.pixels, options.scope))
        for network, share in zip(networks, shares, strict=True)
    ]
    _print_table(results)
    details = {
        result.name: {
            "measured": result.shares.scope,
            "milliseconds": result.shares.milliseconds,
            "operators": [
                {"operator": name, "kind": kind, "percent": percent}
                for (name, kind), percent in result.shares.operators.items()
            ],
        }
        for result in results
    }
    facts = {
        "conditions": {"scope": options.scope, **conditions},
        "explained": _EXPLAINED,
        "networks": details,
        **origin(command),
    }
    rows = [_row(result, kind) for result in results for kind in _COLUMNS]
    study.write(folder, "runtime", rows, facts, _draw(results, options.scope, study.condition_words(conditions)))


# ---- the paper's figure

_FILE = Path(__file__).with_name("fig7.csv")


@dataclass(frozen=True)
class PaperBar:
    """A bar of the figure."""

    attention: str
    network: str
    networks: str
    """Pattern of the names of networks that are the same one; empty for SHViT: the paper does not say which it is."""
    percent: dict[str, float]
    """Share of the time, by kind of operation and of all but matrix products."""


def paper_bar(opened: OpenedNetwork, pixels: int, scope: Scope = "attention") -> PaperBar | None:
    """Return the paper's bar of a network's attention at a side in pixels; `None` where the paper has none."""
    model, at_paper_size = opened.model, pixels == opened.image_size
    if isinstance(model, SHViT):
        at_paper_size = model.design.timm_name is not None and row_at(model.design, pixels) is not None
    for bar in paper_bars() if at_paper_size and scope == "attention" else ():  # it has nothing of whole networks
        if fnmatch(opened.name, bar.networks) if bar.networks else isinstance(model, SHViT | TimmSHViT):
            return bar
    return None


@cache
def paper_bars() -> tuple[PaperBar, ...]:
    """Return the figure, bar by bar."""
    bars = []
    for row in files.read_rows(_FILE):
        percent = {str(kind): float(row[kind]) for kind in KINDS if kind in row}
        percent[MEMORY_BOUND] = sum(percent.values()) - percent["matrix product"]
        bars.append(PaperBar(row["attention"], row["network"], row["networks"], percent))
    return tuple(bars)


# ---- rows and the table

_COLUMNS = (*KINDS, MEMORY_BOUND)
_SHOWN = 1.0  # percent of other work above which its operators are named


@dataclass(frozen=True)
class Comparison:
    """A network's shares beside the paper's."""

    name: str
    shares: Shares
    paper: PaperBar | None
    """The paper's bar of its attention, if any."""

    @property
    def difference(self) -> dict[str, float]:
        """Ours less the paper's, in percentage points, where the paper has any."""
        paper = self.paper.percent if self.paper else {}
        return {name: self.shares.percent[name] - percent for name, percent in paper.items()}


def _row(result: Comparison, kind: str) -> dict[str, Any]:
    """Return a row of `runtime.csv`."""
    percent = result.shares.percent[kind]
    low, high = result.shares.quartiles[kind]
    return {
        "network": result.name,
        "measured": result.shares.scope,
        "kind": kind,
        "percent": round(percent, 3),
        "percent_q1": round(low, 3),
        "percent_q3": round(high, 3),
        "milliseconds": round(result.shares.milliseconds * percent / 100, 5),
        "paper": result.paper and f"{result.paper.attention}, {result.paper.network}",
        "paper_percent": study.rounded(result.paper.percent.get(kind) if result.paper else None, 3),
        "difference": study.rounded(result.difference.get(kind), 3),
    }


def _print_table(results: Sequence[Comparison]) -> None:
    """Print the shares, the paper's figure and the difference, and notes."""
    table = narrow_table(("", "percent of the time"), ("ms", *_COLUMNS, "IQR"))
    table.columns[3].no_wrap = False  # matrix product, the longest name
    for result in results:
        low, high = result.shares.quartiles[MEMORY_BOUND]
        numbers = _formatted(result.shares.percent, ".1f")
        table.add_row(result.name, "here", f"{result.shares.milliseconds:.3g}", *numbers, f"{low:.1f}-{high:.1f}")
        if result.paper is not None:
            source = f"paper: {result.paper.attention}, {result.paper.network}"
            table.add_row("", source, "", *_formatted(result.paper.percent, ".1f"))
            table.add_row("", "difference", "", *_formatted(result.difference, "+z.1f"))
        table.add_section()
    write_table(table)
    for result in results:
        say(f"measured in {result.name}: {result.shares.scope}")
    say("ms: of these operators in a pass; Python's own time between them is not counted")
    say("memory-bound: all but matrix products; IQR: first to third quartile of its passes")
    if any(result.paper for result in results):
        say(
            "paper: Fig. 7, whose device, batch size, image size and profiler are not printed; differences are "
            "percentage points"
        )
    for result in results:
        if result.shares.percent["other"] > _SHOWN:
            unknown = [(name, part) for (name, kind), part in result.shares.operators.items() if kind == "other"]
            say(f"other in {result.name}: {', '.join(f'{name} {part:.1f} %' for name, part in unknown[:4])}")


def _formatted(percent: Mapping[str, float], form: str) -> list[str]:
    return [format(percent[name], form) if name in percent else "" for name in _COLUMNS]


# ---- the figure

_COLORS = (plots.BLUE, plots.ORANGE, plots.GREEN, plots.PURPLE, plots.YELLOW, plots.GRAY)  # one for each kind
_DARK = (plots.BLUE, plots.GREEN)
_HEIGHT = 0.36
_LEAST_LABELED = 3.5  # percent: narrower segments have no room for their number
_PAPER: dict[str, Any] = {"hatch": "////", "alpha": 0.55}
_SPREAD: dict[str, Any] = {"color": "black", "linewidth": 1, "marker": "|", "markersize": 5}
_SPREAD_BELOW = 0.13  # the numbers


def _draw(results: Sequence[Comparison], scope: Scope, conditions: str) -> Figure:
    """Draw stacked bars: two for each network, or one where the paper has none."""
    figure = Figure(figsize=(8.6, 1.7 + 0.95 * len(results)), layout="constrained")
    axes = figure.subplots()
    names = []
    for row, result in enumerate(results):
        shift = _HEIGHT / 2 + 0.02 if result.paper else 0.0
        _draw_bar(axes, row - shift, result.shares.percent)
        low, high = result.shares.quartiles[MEMORY_BOUND]
        axes.plot([100 - high, 100 - low], [row - shift + _SPREAD_BELOW] * 2, **_SPREAD)
        name, text = result.name.removeprefix("timm:"), f"memory-bound\n{result.shares.percent[MEMORY_BOUND]:.1f} %"
        if result.paper:
            _draw_bar(axes, row + shift, result.paper.percent, **_PAPER)
            name += f"\n({result.paper.attention})"
            text += f", paper {result.paper.percent[MEMORY_BOUND]:.1f} %\n({result.difference[MEMORY_BOUND]:+z.1f})"
        axes.annotate(text, (100, row), xytext=(6, 0), textcoords="offset points", fontsize=7.5, va="center")
        names.append(name)
    axes.set_yticks(range(len(results)), names, fontsize=8)
    axes.set(xlim=(0, 100), ylim=(len(results) - 0.4, -0.6))
    axes.set_xlabel(f"% of the time of all operators in {_SCOPES[scope].partition(' (')[0]}", fontsize=8)
    axes.tick_params(axis="x", labelsize=8)
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
    handles: list[Any] = [axes.barh(0, 0, color=color, label=kind) for kind, color in zip(KINDS, _COLORS, strict=True)]
    if any(result.paper for result in results):
        handles.append(axes.barh(0, 0, color="0.6", edgecolor="white", label="hatched: the paper's Fig. 7", **_PAPER))
    handles += axes.plot([], [], label="IQR of the passes", **_SPREAD)
    figure.legend(handles=handles, loc="outside lower center", ncols=4, fontsize=7.5, frameon=False)
    figure.suptitle(f"{conditions}; fused attention switched off", fontsize=9)
    return figure


def _draw_bar(axes: Axes, place: float, percent: Mapping[str, float], **style: Any) -> None:
    left = 0.0
    for kind, color in zip(KINDS, _COLORS, strict=True):
        width = percent.get(kind, 0.0)
        bar = axes.barh(place, width, _HEIGHT, left, color=color, edgecolor="white", linewidth=0.6, **style)
        if width >= _LEAST_LABELED:
            text = "white" if color in _DARK and not style else "black"
            axes.bar_label(bar, fmt="%.1f", label_type="center", fontsize=7, color=text)
        left += width
