"""`shvit-pl analyze macro`: measure designs, print a table and what it shows, draw the stages and the roofline."""

from collections.abc import Mapping, Sequence
from itertools import cycle, groupby
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from shvit_pl import files, plots
from shvit_pl.analysis import study
from shvit_pl.analysis.command import MacroOptions
from shvit_pl.analysis.macro_roofline import Load, MeasuredDesign, MeasuredPart, Peaks, measure
from shvit_pl.deploy import measuring, timing
from shvit_pl.designs import cost, paper_results
from shvit_pl.display import counted, narrow_table, say, write_table
from shvit_pl.errors import UserError
from shvit_pl.models import SHViT
from shvit_pl.models.open_network import OpenedNetwork, open_network

_EXPLAINED = {
    "macs": "of one image, in closed form, BatchNorm not fused",
    "bytes": "of a batch: the tensors that every ATen operator takes and returns: weights, feature maps, the scores "
    "and products of attention, copies, residual additions; views move nothing; as if nothing stayed in a cache "
    "between operators",
    "milliseconds": "of a batch: a part's share of the time in a network with hooks, times the time of the network "
    "without; parts are timed by CUDA events on a GPU, else by the wall clock; medians",
    "receptive_field": "side in pixels of what the output sees; with attention the image; without the gates of "
    "squeeze-and-excitation",
    "downsampling": "including the convolutions and FFNs before and after it",
    "networks": "fused as for deployment, channels-last, eager",
    "peaks": "FLOP/s of a large matrix product in the dtype; bytes/s of a large copy in float32, read and written",
    "paper": "images/s of its Fig. 2 and its tables: an A100 at batch 256, and ONNX Runtime or torch on a Xeon Gold "
    "5218R at batch 16",
}


def run(options: MacroOptions, command: Sequence[str]) -> None:
    """Measure, print a table and what it shows, and write the results, with the command line `command`.

    Raises `UserError` for what is not here or can't be measured, before anything is written.
    """
    folder = files.output_folder(options.output, "macro.csv", "macro.json", "macro.png")
    with study.ready_networks(options, _open_design, torch.channels_last) as (networks, conditions):
        limits = Peaks(*timing.peaks(networks[0].images.device, measuring.DTYPES[options.dtype]))
        say(
            f"peaks, measured: {limits.flops / 1e9:.0f} GFLOP/s (matrix product), {limits.bytes / 1e9:.1f} GB/s "
            f"(copy); ridge at {limits.ridge:.1f} FLOP per byte",
        )
        designs = measure(networks, options.repeats)
    _print_table(designs)
    text = sentences(designs, limits)
    say(*text)
    facts = {
        "conditions": conditions,
        "explained": _EXPLAINED,
        "peaks": {"flop_per_second": limits.flops, "bytes_per_second": limits.bytes, "ridge": limits.ridge},
        "designs": {design.name: _facts(design, limits) for design in designs},
        "ratios": [ratio(designs[0], other) for other in designs[1:]],
        **measuring.origin(command),
        "findings": text,
    }
    rows = [_row(design, part) for design in designs for part in design.parts]
    study.write(folder, "macro", rows, facts, _draw(designs, limits, study.condition_words(conditions), text))


def _open_design(name: str) -> OpenedNetwork:
    opened = open_network(name)
    if not isinstance(opened.model, SHViT):
        raise UserError(
            f"{name!r}: not a SHViT design, so its stages are unknown. Give a design (shvit-pl designs lists them), or "
            "a run folder, checkpoint or Hub repo of shvit-pl; shvit-pl analyze runtime takes models of timm."
        )
    return opened


def _facts(design: MeasuredDesign, peaks: Peaks) -> dict[str, Any]:
    """Return the speed of a design, and its stages on the roofline, for `macro.json`."""

    def facts(load: Load) -> dict[str, Any]:
        return {
            "flop": load.flops,
            "bytes": load.bytes,
            "milliseconds": 1000 * load.seconds,
            "flop_per_byte": load.intensity,
            "gflop_per_second": load.flops_per_second / 1e9,
            "below_the_ridge": load.intensity < peaks.ridge,
        }

    low, high = design.rate.quartiles
    return {
        "images_per_second": design.rate.median,
        "images_per_second_q1": low,
        "images_per_second_q3": high,
        "slowest_stage": design.slowest,
        "stages": {name: facts(load) for name, load in design.stages.items()},
        "whole": facts(design.whole),
    }


def _row(design: MeasuredDesign, measured: MeasuredPart) -> dict[str, Any]:
    """Return a row of `macro.csv`: MACs are of one image, bytes and milliseconds of a batch."""
    part, load, whole = measured.part, measured.load, design.whole
    low, share, high = measured.shares
    return {
        "design": design.name,
        "stage": part.stage,
        "operation": part.operation,
        "tokens": part.tokens,
        "channels": part.channels,
        "receptive_field": measured.receptive_field,
        "params": part.cost.params,
        "macs": part.cost.macs,
        "macs_percent": round(100 * load.flops / whole.flops, 3),
        "bytes": load.bytes,
        "milliseconds": round(1000 * load.seconds, 5),
        "milliseconds_q1": round(1000 * low * whole.seconds, 5),
        "milliseconds_q3": round(1000 * high * whole.seconds, 5),
        "time_percent": round(100 * share, 3),
        "flop_per_byte": round(load.intensity, 4),
        "gflop_per_second": round(load.flops_per_second / 1e9, 4),
    }


# ---- the table

_NUMBERS = ("tokens", "channels", "field px", "MMACs", "% MACs", "MB", "ms", "% time", "FLOP/byte", "GFLOP/s")


def _print_table(designs: Sequence[MeasuredDesign]) -> None:
    """Print every operation of every stage, and the sums."""
    table = narrow_table(("", "operation"), _NUMBERS)
    for design in designs:
        table.add_row(design.name, "all", "", "", "", *_load_cells(design.whole, design), style="bold")
        for stage, parts in groupby(design.parts, lambda measured: measured.part.stage):
            for number, measured in enumerate(parts):
                part = measured.part
                texts = [part.operation, str(part.tokens), str(part.channels), str(measured.receptive_field)]
                table.add_row(f"  {stage}" if number == 0 else "", *texts, *_load_cells(measured.load, design))
        table.add_section()
    write_table(table)
    say("MMACs are per image; MB and ms per batch. MB: read and written by all operators except views.")
    say("ms: a part's share of the time with hooks, times the network's time without them; field: receptive field")


def _load_cells(load: Load, design: MeasuredDesign) -> list[str]:
    return [
        f"{load.flops / 2e6 / design.batch_size:.2f}",
        f"{100 * load.flops / design.whole.flops:.1f}",
        f"{load.bytes / 1e6:.1f}",
        f"{1000 * load.seconds:.3g}",
        f"{100 * load.seconds / design.whole.seconds:.1f}",
        f"{load.intensity:.1f}",
        f"{load.flops_per_second / 1e9:.3g}",
    ]


# ---- sentences

_COLUMNS = {"gpu": "on a GPU", "cpu": "on a CPU", "onnx": "by ONNX Runtime on a CPU"}
_SOME_TIME = 0.05  # share of the time below which a stage is left out
_NEAR = 1.2  # times the ridge, or over it: peaks measured anew may turn the side


def sentences(designs: Sequence[MeasuredDesign], peaks: Peaks) -> list[str]:
    """Return which stage takes most time, which is least efficient, and how the designs compare."""
    stages = [text for design in designs for text in _stage_sentences(design, peaks)]
    return stages + [_comparison(designs[0], other) for other in designs[1:]]


def _stage_sentences(design: MeasuredDesign, peaks: Peaks) -> tuple[str, str]:
    """Return sentences on the slowest stage, and on that with most time per MAC, of those that take some time."""
    stages, whole, slowest = design.stages, design.whole, design.slowest
    parts = [part for part in design.parts if part.part.stage == slowest]
    part, load = max(parts, key=lambda part: part.load.seconds).part, stages[slowest]
    to_ridge = load.intensity / peaks.ridge
    side, limit = ("below", "memory-bound") if to_ridge < 1 else ("above", "compute-bound")
    if 1 / _NEAR <= to_ridge <= _NEAR:
        side, limit = "near", "limited by memory and compute about equally"
    reached = load.flops_per_second / peaks.roof(load.intensity)
    speeds = {name: load.flops_per_second for name, load in stages.items() if load.seconds > _SOME_TIME * whole.seconds}
    least = min(speeds, key=speeds.__getitem__)
    return (
        f"{design.name}: {_with_article(slowest)} is the slowest: {_shares(design, slowest)} (mostly {part.operation}, "
        f"{counted(part.tokens, 'token')}). At {load.intensity:.1f} FLOP per byte it is {side} the ridge of "
        f"{peaks.ridge:.1f}, {limit}, and reaches {reached:.0%} of the roofline.",
        f"{design.name}: {_with_article(least)} has the highest time per MAC, "
        f"{whole.flops_per_second / speeds[least]:.1f} times the mean: {_shares(design, least)}.",
    )


def _with_article(stage: str) -> str:
    return f"the {stage}" if stage in ("stem", "head") else stage


def _shares(design: MeasuredDesign, stage: str) -> str:
    """Return the stage's shares of the time and of the MACs in percent."""
    load, whole = design.stages[stage], design.whole
    shares = (load.seconds / whole.seconds, load.flops / whole.flops)
    time, macs = ("<1%" if 0 < share < 0.01 else f"{share:.0%}" for share in shares)
    return f"{time} of the time and {macs} of the MACs"


def ratio(first: MeasuredDesign, other: MeasuredDesign) -> dict[str, Any]:
    """Return images per second of a design over those of the first, here and in the paper at its own image sizes."""
    above, below = (paper_results.row_at(design.design, design.pixels) for design in (other, first))
    facts: dict[str, Any] = {"designs": [first.name, other.name], "here": other.rate.median / first.rate.median}
    for name in _COLUMNS:
        speeds = getattr(above, name, None), getattr(below, name, None)
        facts[f"paper_{name}"] = speeds[0] / speeds[1] if speeds[0] and speeds[1] else None
    return facts


def _comparison(first: MeasuredDesign, other: MeasuredDesign) -> str:
    facts = ratio(first, other)
    rates = f"{other.rate.median:.3g} / {first.rate.median:.3g} images/s"
    text = f"{other.name} / {first.name}: {rates}, {facts['here']:.2f} times."
    values = [(facts[f"paper_{name}"], where) for name, where in _COLUMNS.items()]
    if printed := ", ".join(f"{value:.2f} {where}" for value, where in values if value):
        rows = [paper_results.row_at(design.design, design.pixels) for design in (other, first)]
        text += f" The paper's: {printed} ({' / '.join(row.source for row in rows if row)})."
    return text


# ---- the figure

_WIDTH = 12.0  # inches
_OPERATION_COLORS = (plots.GRAY, plots.SKY, plots.ORANGE, plots.VERMILION, plots.BLUE, plots.BLACK)
_DESIGN_COLORS = (plots.VERMILION, plots.BLUE, plots.GREEN, plots.PURPLE, plots.ORANGE, plots.SKY, plots.BLACK)
_SHOWN = 0.01  # share of the time below which a stage has no point
_MARGIN = 2.0  # times the least and the largest


def _draw(designs: Sequence[MeasuredDesign], peaks: Peaks, title: str, text: Sequence[str]) -> Figure:
    """Draw the time stage by stage at the left, the roofline at the right, and the sentences of `text` below them."""
    rows = [len(design.stages) + 1 for design in designs]
    height = max(4.2, 1.6 + 0.33 * sum(rows)) + plots.caption_height(text, _WIDTH)
    figure = Figure(figsize=(_WIDTH, height), layout="constrained")
    panels = figure.subfigures(1, 2, squeeze=False, width_ratios=(1.1, 1))[0]
    left = panels[0].subplots(len(designs), 1, sharex=True, squeeze=False, height_ratios=rows)[:, 0]
    for axes, design in zip(left, designs, strict=True):
        _draw_stages(axes, design)
    longest = max(load.seconds for design in designs for load in design.stages.values())
    left[-1].set_xlim(0, 1600 * longest)  # room for the words at the bars' ends
    left[-1].set_xlabel("milliseconds of a batch, by operation", fontsize=8.5)
    _draw_roofline(panels[1].subplots(), designs, peaks)
    style: dict[str, Any] = {"loc": "outside lower center", "fontsize": 7.5, "title_fontsize": 7.5, "frameon": False}
    panels[0].legend(*left[-1].get_legend_handles_labels(), ncols=6, **style)
    panels[1].legend(ncols=2, title="S stem; 1, 2, ... stages (from 1% of time)", **style)
    figure.suptitle(title, fontsize=9)
    plots.write_caption(figure, text)
    return figure


def _draw_stages(axes: Axes, design: MeasuredDesign) -> None:
    """Draw a bar for each stage, one segment for each operation."""
    parts = {measured.part.stage: measured.part for measured in design.parts}  # the last one of each stage
    names = [f"{stage}\n{counted(part.tokens, 'token')} x {part.channels}" for stage, part in parts.items()]
    names[-1] = "head"
    left = np.zeros(len(parts))
    for operation, color in zip(cost.OPERATIONS, _OPERATION_COLORS, strict=True):
        seconds = {each.part.stage: each.load.seconds for each in design.parts if each.part.operation == operation}
        widths = np.array([1000 * seconds.get(stage, 0.0) for stage in parts])
        bars = axes.barh(names, widths, 0.72, left, color=color, edgecolor="white", linewidth=0.5, label=operation)
        left += widths
    axes.bar_label(bars, [_shares(design, stage) for stage in parts], fontsize=7, padding=4)
    title = f"{design.name}: {design.rate.median:.3g} images/s, {1000 * design.whole.seconds:.3g} ms"
    axes.set_title(title, fontsize=8.5, fontweight="bold", loc="left")
    axes.invert_yaxis()
    axes.tick_params(axis="y", length=0, labelsize=7.5)
    axes.tick_params(axis="x", labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_roofline(axes: Axes, designs: Sequence[MeasuredDesign], peaks: Peaks) -> None:
    """Draw the roof, and the stages of every design that take some time as points with their names."""
    shown: list[Mapping[str, Load]] = []
    for design in designs:
        least = _SHOWN * design.whole.seconds
        shown.append({name: load for name, load in design.stages.items() if load.seconds > least})
    loads = [load for stages in shown for load in stages.values()]
    intensities = [peaks.ridge, *(load.intensity for load in loads)]
    start, end = min(intensities) / _MARGIN, max(intensities) * _MARGIN
    axes.axvspan(start, peaks.ridge, color=plots.ORANGE, alpha=0.12, linewidth=0, label="memory-bound")
    axes.axvspan(peaks.ridge, end, color=plots.SKY, alpha=0.12, linewidth=0, label="compute-bound")
    limits = f"{peaks.flops / 1e9:.0f} GFLOP/s (matrix product)\n{peaks.bytes / 1e9:.1f} GB/s (copy)"
    corners = (start, peaks.ridge, end)
    label = f"{limits}, ridge {peaks.ridge:.1f}"
    axes.plot(corners, [peaks.roof(corner) / 1e9 for corner in corners], color="0.25", linewidth=1.6, label=label)
    style: dict[str, Any] = {"fontsize": 7.5, "fontweight": "bold", "ha": "center", "va": "center"}
    style["path_effects"] = [withStroke(linewidth=2, foreground="white")]  # lines may pass below
    # names stand above the points of one design and below those of the next: points may lie close
    looks = zip(designs, shown, cycle(_DESIGN_COLORS), cycle(plots.MARKERS), cycle((9, -9)), strict=False)
    for design, stages, color, marker, offset in looks:
        points = [(load.intensity, load.flops_per_second / 1e9) for load in stages.values()]
        label = plots.legend_label(design.name)
        axes.plot(*zip(*points, strict=True), marker, color=color, ms=7, markeredgecolor="white", label=label)
        for stage, point in zip(stages, points, strict=True):
            name = stage.removeprefix("stage ")[0].upper()
            axes.annotate(name, point, (0, offset), textcoords="offset points", color=color, **style)
    axes.set(xscale="log", yscale="log", xlim=(start, end))
    axes.set_ylim(min(load.flops_per_second for load in loads) / 1e9 / _MARGIN, peaks.flops / 1e9 * _MARGIN)
    for axis in (axes.xaxis, axes.yaxis):
        plots.write_plainly(axis)
    axes.set_xlabel("FLOP per byte (that the operators read and write)", fontsize=8.5)
    axes.set_ylabel("GFLOP/s", fontsize=8.5)
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.2, which="both")
