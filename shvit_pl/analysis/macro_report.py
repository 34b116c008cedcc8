"""`shvit-pl analyze macro`: measure designs, print a table and what it shows, draw the stages and the roofline."""

import math
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from shvit_pl.analysis.macro import Load, MeasuredDesign, MeasuredPart, Peaks, measure
from shvit_pl.analysis.options import MacroOptions
from shvit_pl.analysis.study import check_output, condition_words, conditions, device_errors, ready_networks, write
from shvit_pl.deploy.measuring import origin, torch_dtype
from shvit_pl.deploy.timing import peaks
from shvit_pl.designs.cost import OPERATIONS
from shvit_pl.designs.published import row_at
from shvit_pl.display import plots
from shvit_pl.display.plots import BLACK, BLUE, GRAY, GREEN, MARKERS, ORANGE, PURPLE, SKY, VERMILION
from shvit_pl.display.terminal import narrow_table, table_console
from shvit_pl.display.words import counted
from shvit_pl.errors import UserError
from shvit_pl.models import SHViT
from shvit_pl.models.open_network import OpenedNetwork, open_network

_STUDY = "macro"
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

    Raises:
        UserError: for what is not here or can't be measured, before anything is written.
    """
    folder = check_output(options.output, _STUDY)
    with ready_networks(options, _open_design, torch.channels_last) as networks:
        under = conditions(options, networks)
        with device_errors(f"measuring {' '.join(options.models)}"):
            limits = Peaks(*peaks(networks[0].images.device, torch_dtype(options.dtype)))
            print(condition_words(under, "on "))
            print(
                f"peaks, measured: {limits.flops / 1e9:.0f} GFLOP/s (matrix product), {limits.bytes / 1e9:.1f} GB/s "
                f"(copy); ridge at {limits.ridge:.1f} FLOP per byte",
                flush=True,
            )
            designs = measure(networks, options.repeats)
    _print_table(designs)
    text = sentences(designs, limits)
    print("\n".join(text))
    facts = {
        "conditions": under,
        "explained": _EXPLAINED,
        "peaks": {"flop_per_second": limits.flops, "bytes_per_second": limits.bytes, "ridge": limits.ridge},
        "designs": {design.name: _stage_facts(design, limits) for design in designs},
        "ratios": [ratio(designs[0], other) for other in designs[1:]],
        **origin(command),
        "findings": text,
    }
    rows = [_row(design, part) for design in designs for part in design.parts]
    write(folder, _STUDY, rows, facts, _draw(designs, limits, under, text))


def _open_design(name: str) -> OpenedNetwork:
    opened = open_network(name)
    if not isinstance(opened.model, SHViT):
        raise UserError(
            f"{name!r}: not a SHViT design, so its stages are unknown. Give a design (shvit-pl designs lists them), or "
            "a run folder, checkpoint or Hub repo of shvit-pl; shvit-pl analyze runtime takes models of timm."
        )
    return opened


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


def _stage_facts(design: MeasuredDesign, peaks: Peaks) -> dict[str, Any]:
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


# ---- the table

_NUMBERS = ("tokens", "channels", "sees px", "MMACs", "% MACs", "MB", "ms", "% time", "FLOP/byte", "GFLOP/s")


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
    table_console().print(table)
    print("MMACs are of one image; MB and ms of a batch. MB is what all operators but views read and write.")
    print("ms: a part's share of the time with hooks, times the time of the whole network without them")


def _load_cells(load: Load, design: MeasuredDesign) -> list[str]:
    whole = design.whole
    return [
        f"{load.flops / 2e6 / design.batch_size:.2f}",
        f"{100 * load.flops / whole.flops:.1f}",
        f"{load.bytes / 1e6:.1f}",
        f"{1000 * load.seconds:.3g}",
        f"{100 * load.seconds / whole.seconds:.1f}",
        f"{load.intensity:.1f}",
        f"{load.flops_per_second / 1e9:.3g}",
    ]


# ---- sentences

_COLUMNS = {"gpu": "on a GPU", "cpu": "on a CPU", "onnx": "by ONNX Runtime on a CPU"}
_SOME_TIME = 0.05  # share of the time below which a stage is left out
_NEAR = 1.2  # times the ridge, or over it: peaks measured anew may turn the side


def sentences(designs: Sequence[MeasuredDesign], peaks: Peaks) -> list[str]:
    """Return which stage takes most time, which is least efficient, and how the designs compare."""
    stages = [text for design in designs for text in (_slowest_stage(design, peaks), _least_efficient_stage(design))]
    return stages + [_comparison(designs[0], other) for other in designs[1:]]


def _slowest_stage(design: MeasuredDesign, peaks: Peaks) -> str:
    name = design.slowest
    load = design.stages[name]
    parts = [part for part in design.parts if part.part.stage == name]
    part = max(parts, key=lambda part: part.load.seconds).part
    to_ridge = load.intensity / peaks.ridge
    side, limit = ("below", "memory sets") if to_ridge < 1 else ("above", "arithmetic sets")
    if 1 / _NEAR <= to_ridge <= _NEAR:
        side, limit = "about at", "memory and arithmetic alike set"
    reached = load.flops_per_second / peaks.roof(load.intensity)
    time, macs = _shares(design, name)
    return (
        f"{design.name}: {_with_article(name)} takes most: {time} of the time and {macs} of the MACs (most of it "
        f"{part.operation}, {counted(part.tokens, 'token')}). Its {load.intensity:.1f} FLOP per byte are {side} the "
        f"ridge of {peaks.ridge:.1f}: {limit} its bound, of which it reaches {reached:.0%}."
    )


def _least_efficient_stage(design: MeasuredDesign) -> str:
    """Return a sentence on the stage with most time per MAC, of those that take some time."""
    whole = design.whole
    stages = {name: load for name, load in design.stages.items() if load.seconds > _SOME_TIME * whole.seconds}
    name = min(stages, key=lambda name: stages[name].flops_per_second)
    ratio = whole.flops_per_second / stages[name].flops_per_second
    time, macs = _shares(design, name)
    return (
        f"{design.name}: {_with_article(name)} has the highest time per MAC, {ratio:.1f} times the mean: "
        f"{time} of the time and {macs} of the MACs."
    )


def _shares(design: MeasuredDesign, stage: str) -> tuple[str, str]:
    """Return the stage's shares of the time and of the MACs in percent."""
    load, whole = design.stages[stage], design.whole
    time, macs = load.seconds / whole.seconds, load.flops / whole.flops
    return ("<1%" if 0 < time < 0.01 else f"{time:.0%}"), ("<1%" if 0 < macs < 0.01 else f"{macs:.0%}")


def _with_article(stage: str) -> str:
    return f"the {stage}" if stage in ("stem", "head") else stage


def ratio(first: MeasuredDesign, other: MeasuredDesign) -> dict[str, Any]:
    """Return images per second of a design over those of the first, here and in the paper at its own image sizes."""
    above, below = (row_at(design.design, design.pixels) for design in (other, first))
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
    printed = [f"{value:.2f} {where}" for value, where in values if value]
    if not printed:
        return text
    rows = [row_at(design.design, design.pixels) for design in (other, first)]
    sources = " / ".join(row.source for row in rows if row is not None)
    return f"{text} The paper's: {', '.join(printed)} ({sources})."


# ---- the figure: time stage by stage

_OPERATION_COLORS = dict(zip(OPERATIONS, (GRAY, SKY, ORANGE, VERMILION, BLUE, BLACK), strict=True))
_GAP = 1.4  # rows between two designs, with the name of the lower one
_WIDTH = 12.0  # inches


def _draw(
    designs: Sequence[MeasuredDesign], peaks: Peaks, conditions: Mapping[str, Any], text: Sequence[str]
) -> Figure:
    """Draw the time stage by stage at the left, the roofline at the right, and the sentences of `text` below them."""
    rows = sum(len(design.stages) + _GAP for design in designs)
    height = max(4.2, 1.1 + 0.31 * rows) + plots.caption_height(text, _WIDTH)
    figure = Figure(figsize=(_WIDTH, height), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.1, 1))
    _draw_stages(left, designs)
    _draw_roofline(right, designs, peaks)
    figure.suptitle(condition_words(conditions), fontsize=9)
    plots.write_caption(figure, text)
    return figure


def _draw_stages(axes: Axes, designs: Sequence[MeasuredDesign]) -> None:
    row, ticks = 0.0, {}
    for design in designs:
        title = f"{design.name}: {design.rate.median:.3g} images/s, {1000 * design.whole.seconds:.3g} ms"
        axes.text(0.0, row, title, fontsize=8.5, fontweight="bold", va="center", transform=axes.get_yaxis_transform())
        for stage in design.stages:
            row += 1
            ticks[row] = _draw_stage(axes, row, design, stage)
        row += _GAP
    longest = max(load.seconds for design in designs for load in design.stages.values())
    axes.set_xlim(0, 1450 * longest)  # room for the words at the bars' ends
    axes.set_ylim(row - 0.4, -0.7)
    axes.set_yticks(list(ticks), list(ticks.values()), fontsize=7.5)
    axes.set_xlabel("milliseconds of a batch, by operation", fontsize=8.5)
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    used = {part.part.operation for design in designs for part in design.parts}
    handles = [axes.barh(0, 0, color=_OPERATION_COLORS[name], label=name) for name in OPERATIONS if name in used]
    place: dict[str, Any] = {"bbox_to_anchor": (0.5, 0), "borderaxespad": 4.5}  # below the axis' own words
    axes.legend(handles=handles, loc="upper center", ncols=6, fontsize=7.5, frameon=False, **place)


def _draw_stage(axes: Axes, row: float, design: MeasuredDesign, stage: str) -> str:
    """Draw the bar of a stage, one segment for each operation; return the bar's name."""
    parts = [measured for measured in design.parts if measured.part.stage == stage]
    left = 0.0
    for measured in parts:
        width, color = 1000 * measured.load.seconds, _OPERATION_COLORS[measured.part.operation]
        axes.barh(row, width, 0.72, left, color=color, edgecolor="white", linewidth=0.5)
        left += width
    time, macs = _shares(design, stage)
    axes.annotate(
        f"{time} of time, {macs} of MACs",
        (left, row),
        xytext=(4, 0),
        textcoords="offset points",
        fontsize=7,
        va="center",
    )
    last = parts[-1].part
    return f"{stage}\n{counted(last.tokens, 'token')} x {last.channels}" if stage != "head" else "head"


# ---- the figure: roofline

_DESIGN_COLORS = (VERMILION, BLUE, GREEN, PURPLE, ORANGE, SKY, BLACK)
_SHOWN = 0.01  # share of the time below which a stage has no point
_ABOVE = 1.1  # times the slope, where its name stands
_MARGIN = 2.0  # times the least and the largest
_SIDES = (("memory-bound", ORANGE), ("compute-bound", SKY))  # left and right of the ridge


def _draw_roofline(axes: Axes, designs: Sequence[MeasuredDesign], peaks: Peaks) -> None:
    """Draw the roof, and the stages of every design that take some time as points with their names."""
    loads = [load for design in designs for load in _shown_stages(design).values()]
    points = [*(load.intensity for load in loads), peaks.ridge]
    intensities = np.geomspace(min(points) / _MARGIN, max(points) * _MARGIN, 200)
    axes.plot(intensities, [peaks.roof(each) / 1e9 for each in intensities], color="0.25", linewidth=1.6)
    for number, design in enumerate(designs):
        _draw_points(axes, design, number)
    axes.set(xscale="log", yscale="log", xlim=(intensities[0], intensities[-1]))
    axes.set_ylim(min(load.flops_per_second for load in loads) / 1e9 / _MARGIN, peaks.flops / 1e9 * _MARGIN)
    for axis in (axes.xaxis, axes.yaxis):
        plots.write_plainly(axis)
    axes.set_xlabel("FLOP per byte (that the operators read and write)", fontsize=8.5)
    axes.set_ylabel("GFLOP/s", fontsize=8.5)
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.2, which="both")
    _name_limits(axes, peaks)
    axes.legend(fontsize=7.5, loc="upper left", title="S stem; 1, 2, ... stages (from 1% of time)", title_fontsize=7.5)


def _shown_stages(design: MeasuredDesign) -> dict[str, Load]:
    return {name: load for name, load in design.stages.items() if load.seconds > _SHOWN * design.whole.seconds}


def _draw_points(axes: Axes, design: MeasuredDesign, number: int) -> None:
    """Draw stages with names above the points of one design, and below those of the next: points may lie close."""
    color, marker = _DESIGN_COLORS[number % len(_DESIGN_COLORS)], MARKERS[number % len(MARKERS)]
    stages = _shown_stages(design)
    points = [(load.intensity, load.flops_per_second / 1e9) for load in stages.values()]
    axes.plot(*zip(*points, strict=True), marker, color=color, markersize=7, markeredgecolor="white", label=design.name)
    offset = (0.0, 9.0 if number % 2 == 0 else -9.0)
    for stage, point in zip(stages, points, strict=True):
        text = stage.removeprefix("stage ")[0].upper()
        _write(axes, text, point, offset, color=color, fontweight="bold", ha="center", va="center")


def _name_limits(axes: Axes, peaks: Peaks) -> None:
    """Name the peaks and the ridge, and shade its sides: left of it memory sets the bound, right of it arithmetic."""
    (least, most), (lowest, _) = axes.get_xlim(), axes.get_ylim()
    for (name, color), start, end in zip(_SIDES, (least, peaks.ridge), (peaks.ridge, most), strict=True):
        axes.axvspan(start, end, color=color, alpha=0.12, linewidth=0, zorder=0)
        place, transform = (math.sqrt(start * end), 1.01), axes.get_xaxis_transform()
        axes.text(*place, name, fontsize=8.5, fontweight="bold", ha="center", va="bottom", transform=transform)
    _write(axes, f"{peaks.flops / 1e9:.0f} GFLOP/s (matrix product)", (most, peaks.flops / 1e9), (-4, 4), ha="right")
    _write(axes, f"ridge {peaks.ridge:.1f}", (peaks.ridge, lowest), (3, 5), color="0.35")
    x = max(least, lowest * 1e9 / peaks.bytes) * 1.2  # where the slope begins to be seen
    slope = math.degrees(math.atan(peaks.bytes / 1e9))  # in the units of the axes
    along: dict[str, Any] = {"rotation": slope, "rotation_mode": "anchor", "transform_rotates_text": True}
    axes.text(x, peaks.bytes * x / 1e9 * _ABOVE, f"{peaks.bytes / 1e9:.1f} GB/s (copy)", fontsize=7.5, **along)


def _write(axes: Axes, text: str, point: tuple[float, float], offset: tuple[float, float], **style: Any) -> None:
    """Write near a point, `offset` points from it."""
    written = axes.annotate(text, point, xytext=offset, textcoords="offset points", **{"fontsize": 7.5, **style})
    written.set_path_effects([withStroke(linewidth=2, foreground="white")])  # lines may pass below
