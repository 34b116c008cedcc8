"""`shvit-pl analyze macro`: measure designs, print a table and what it says, draw the stages and the roofline."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from shvit_pl.analysis.macro import Load, MeasuredDesign, MeasuredPart, Peaks, measure
from shvit_pl.analysis.options import MacroOptions
from shvit_pl.analysis.ready_network import condition_words, conditions, device_errors, ready_networks
from shvit_pl.analysis.study_folder import check_output, write
from shvit_pl.deploy.measuring import origin, torch_dtype
from shvit_pl.deploy.timing import peaks
from shvit_pl.designs.cost import OPERATIONS
from shvit_pl.designs.published import row_at
from shvit_pl.display.plots import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    MARKERS,
    ORANGE,
    PURPLE,
    SKY,
    VERMILION,
    caption_height,
    write_caption,
    write_plainly,
)
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
    "milliseconds": "of a batch: a part's share of the time in a network with hooks, times that of the whole network "
    "without; clock of the parts: CUDA events on a GPU, else the wall clock; medians",
    "receptive_field": "side in pixels of what the output sees; with attention the image; without the gates of "
    "squeeze-and-excitation",
    "downsampling": "with the convolutions and FFNs that flank it",
    "networks": "fused as they are deployed, channels-last, eager",
    "peaks": "FLOP/s of a large matrix product in the dtype; bytes/s of a large copy in float32, read and written",
    "paper": "images/s of its Fig. 2 and its tables: an A100 at batch 256, and ONNX Runtime or torch on a Xeon Gold "
    "5218R at batch 16",
}


def run(options: MacroOptions, command: Sequence[str]) -> None:
    """Measure, print the table and what it says, and write the results.

    Args:
        options: What is measured, and how.
        command: The command line.

    Raises:
        UserError: for what is not here or can't be measured, before anything is written.
    """
    folder = check_output(options.output, _STUDY)
    with ready_networks(options, _open_design, torch.channels_last) as networks:
        under = conditions(options, networks)
        with device_errors(f"measuring {' '.join(options.models)}"):
            limits = Peaks(*peaks(networks[0].device, torch_dtype(options.dtype)))
            print(describe(under, limits), flush=True)
            designs = measure(networks, options.repeats)
    print_table(designs)
    said = list(sentences(designs, limits, under["image_size"]))
    print("\n".join(said))
    facts = {
        "conditions": under,
        "explained": _EXPLAINED,
        "peaks": {"flop_per_second": limits.flops, "bytes_per_second": limits.bytes, "ridge": limits.ridge},
        "designs": {design.name: stage_facts(design, limits) for design in designs},
        "ratios": ratios(designs, under["image_size"]),
        **origin(command),
        "said": said,
    }
    write(folder, _STUDY, make_rows(designs), facts, draw(designs, limits, under, said))
    print(f"written: {folder}")


def _open_design(name: str) -> OpenedNetwork:
    opened = open_network(name)
    if not isinstance(opened.model, SHViT):
        raise UserError(
            f"{name!r}: its stages are not known here. Give a design (shvit-pl designs has them), or a run folder, "
            "checkpoint or Hub repo of shvit-pl; shvit-pl analyze runtime takes models of timm."
        )
    return opened


def describe(conditions: Mapping[str, Any], peaks: Peaks) -> str:
    """Return the conditions and the device's peaks in two lines."""
    return (
        f"{condition_words(conditions, 'on ')}\n"
        f"peaks, measured: {peaks.flops / 1e9:.0f} GFLOP/s (matrix product), "
        f"{peaks.bytes / 1e9:.1f} GB/s (copy); ridge at {peaks.ridge:.1f} FLOP per byte"
    )


# ---- rows and facts


def make_rows(designs: Sequence[MeasuredDesign]) -> list[dict[str, Any]]:
    """Return the rows of `macro.csv`: MACs are of one image, bytes and milliseconds of a batch."""
    return [_row(design, part) for design in designs for part in design.parts]


def _row(design: MeasuredDesign, measured: MeasuredPart) -> dict[str, Any]:
    part, load, whole = measured.part, measured.load, design.whole
    low, high = measured.time.quartiles
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
        "time_percent": round(100 * measured.time.share, 3),
        "flop_per_byte": round(load.intensity, 4),
        "gflop_per_second": round(load.flops_per_second / 1e9, 4),
    }


def stage_facts(design: MeasuredDesign, peaks: Peaks) -> dict[str, Any]:
    """Return the speed of a design, and its stages on the roofline, for `macro.json`."""
    median, low, high = design.images_per_second
    return {
        "images_per_second": median,
        "images_per_second_q1": low,
        "images_per_second_q3": high,
        "slowest_stage": design.slowest(),
        "stages": {name: _load_facts(load, peaks) for name, load in design.stages.items()},
        "whole": _load_facts(design.whole, peaks),
    }


def _load_facts(load: Load, peaks: Peaks) -> dict[str, Any]:
    return {
        "flop": load.flops,
        "bytes": load.bytes,
        "milliseconds": 1000 * load.seconds,
        "flop_per_byte": load.intensity,
        "gflop_per_second": load.flops_per_second / 1e9,
        "below_the_ridge": load.intensity < peaks.ridge,
    }


# ---- the table

_NUMBERS = ("tokens", "channels", "sees px", "MMACs", "% MACs", "MB", "ms", "% time", "FLOP/byte", "GFLOP/s")


def print_table(designs: Sequence[MeasuredDesign]) -> None:
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
    print("MMACs: of one image; MB and ms: of a batch; MB: what every operator reads and writes, but for views")
    print("ms: the shares of timed parts of the time of the whole network, which is measured without instruments")


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
_SOME_TIME = 0.05  # share of the time below which a stage is not spoken of
_NEAR = 1.2  # times the ridge, or over it: peaks measured anew may turn the side


def sentences(designs: Sequence[MeasuredDesign], peaks: Peaks, pixels: Mapping[str, int]) -> Iterator[str]:
    """Yield which stage takes most time, and how the designs compare.

    Args:
        designs: The measured designs.
        peaks: The device's limits.
        pixels: Side of the images of each design.
    """
    for design in designs:
        yield _slowest_stage(design, peaks)
        yield _least_efficient_stage(design)
    for other in designs[1:]:
        yield _ratio_sentence(designs[0], other, pixels)


def _slowest_stage(design: MeasuredDesign, peaks: Peaks) -> str:
    name = design.slowest()
    load = design.stages[name]
    parts = [part for part in design.parts if part.part.stage == name]
    part = max(parts, key=lambda part: part.load.seconds).part
    side, limit = _side_of_ridge(load.intensity / peaks.ridge)
    reached = load.flops_per_second / peaks.roof(load.intensity)
    return (
        f"{design.name}: {_with_article(name)} takes most: {_time_and_macs(design, name)} (most of it "
        f"{part.operation}, {counted(part.tokens, 'token')}). Its {load.intensity:.1f} FLOP per byte are {side} the "
        f"ridge of {peaks.ridge:.1f}: {limit} its bound, of which it reaches {reached:.0%}."
    )


def _side_of_ridge(ratio: float) -> tuple[str, str]:
    """Return where an intensity lies, by its ratio to the ridge, and what that means."""
    if 1 / _NEAR <= ratio <= _NEAR:
        return "about at", "memory and arithmetic alike set"
    return ("below", "memory sets") if ratio < 1 else ("above", "arithmetic sets")


def _least_efficient_stage(design: MeasuredDesign) -> str:
    """Return a sentence on the stage with most time per MAC, of those that take some time."""
    whole = design.whole
    stages = {name: load for name, load in design.stages.items() if load.seconds > _SOME_TIME * whole.seconds}
    name = min(stages, key=lambda name: stages[name].flops_per_second)
    ratio = whole.flops_per_second / stages[name].flops_per_second
    return (
        f"{design.name}: {_with_article(name)} has the highest time per MAC, {ratio:.1f} times the mean: "
        f"{_time_and_macs(design, name)}."
    )


def _time_and_macs(design: MeasuredDesign, stage: str) -> str:
    load, whole = design.stages[stage], design.whole
    return f"{_percent(load.seconds / whole.seconds)} of the time and {_percent(load.flops / whole.flops)} of the MACs"


def _percent(share: float) -> str:
    return "<1%" if 0 < share < 0.01 else f"{share:.0%}"


def _with_article(stage: str) -> str:
    return f"the {stage}" if stage in ("stem", "head") else stage


def _ratio_sentence(first: MeasuredDesign, other: MeasuredDesign, pixels: Mapping[str, int]) -> str:
    rates = [design.images_per_second[0] for design in (other, first)]
    text = f"{other.name} / {first.name}: {rates[0]:.3g} / {rates[1]:.3g} images/s, {rates[0] / rates[1]:.2f} times."
    paper = _paper_ratios(first, other, pixels)
    printed = [f"{ratio:.2f} {_COLUMNS[name]}" for name, ratio in paper.items() if ratio]
    if not printed:
        return text
    rows = [row_at(design.design, pixels[design.name]) for design in (other, first)]
    sources = " / ".join(row.source for row in rows if row is not None)
    return f"{text} The paper's: {', '.join(printed)} ({sources})."


def ratios(designs: Sequence[MeasuredDesign], pixels: Mapping[str, int]) -> list[dict[str, Any]]:
    """Return images per second of each design over those of the first, here and in the paper (`None` without any)."""
    first = designs[0]
    return [
        {
            "designs": [first.name, other.name],
            "here": other.images_per_second[0] / first.images_per_second[0],
            **{f"paper_{name}": value for name, value in _paper_ratios(first, other, pixels).items()},
        }
        for other in designs[1:]
    ]


def _paper_ratios(first: MeasuredDesign, other: MeasuredDesign, pixels: Mapping[str, int]) -> dict[str, float | None]:
    """Return the paper's ratios by column, at its own image sizes only."""
    rows = [row_at(design.design, pixels[design.name]) for design in (other, first)]
    return {name: _quotient(*(getattr(row, name, None) for row in rows)) for name in _COLUMNS}


def _quotient(above: float | None, below: float | None) -> float | None:
    return above / below if above and below else None


# ---- the figure: time stage by stage

_OPERATION_COLORS = dict(zip(OPERATIONS, (GREY, SKY, ORANGE, VERMILION, BLUE, BLACK), strict=True))
_GAP = 1.4  # rows between two designs, with the name of the lower one
_WIDTH = 12.0  # inches


def draw(designs: Sequence[MeasuredDesign], peaks: Peaks, conditions: Mapping[str, Any], said: Sequence[str]) -> Figure:
    """Draw the time stage by stage at the left, the roofline at the right, and sentences below them.

    Args:
        designs: The measured designs.
        peaks: The device's limits.
        conditions: Conditions of the measurement.
        said: The sentences that are printed.
    """
    rows = sum(len(design.stages) + _GAP for design in designs)
    height = max(4.2, 1.1 + 0.31 * rows) + caption_height(said, _WIDTH)
    figure = Figure(figsize=(_WIDTH, height), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.1, 1))
    _draw_stages(left, designs)
    _draw_roofline(right, designs, peaks)
    figure.suptitle(condition_words(conditions), fontsize=9)
    write_caption(figure, said)
    return figure


def _draw_stages(axes: Axes, designs: Sequence[MeasuredDesign]) -> None:
    row, ticks = 0.0, {}
    for design in designs:
        title = f"{design.name}: {design.images_per_second[0]:.3g} images/s, {1000 * design.whole.seconds:.3g} ms"
        axes.text(0.0, row, title, fontsize=8.5, fontweight="bold", va="center", transform=axes.get_yaxis_transform())
        for stage in design.stages:
            row += 1
            ticks[row] = _stage_label(design, stage)
            _draw_stage(axes, row, design, stage)
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


def _draw_stage(axes: Axes, row: float, design: MeasuredDesign, stage: str) -> None:
    left = 0.0
    for part in design.parts:
        if part.part.stage == stage:
            width = 1000 * part.load.seconds
            color = _OPERATION_COLORS[part.part.operation]
            axes.barh(row, width, 0.72, left, color=color, edgecolor="white", linewidth=0.5)
            left += width
    load, whole = design.stages[stage], design.whole
    text = f"{_percent(load.seconds / whole.seconds)} of time, {_percent(load.flops / whole.flops)} of MACs"
    axes.annotate(text, (left, row), xytext=(4, 0), textcoords="offset points", fontsize=7, va="center")


def _stage_label(design: MeasuredDesign, stage: str) -> str:
    last = next(part.part for part in reversed(design.parts) if part.part.stage == stage)
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
    axes.set_xscale("log")
    axes.set_yscale("log")
    for axis in (axes.xaxis, axes.yaxis):
        write_plainly(axis)
    axes.set_xlim(intensities[0], intensities[-1])
    axes.set_ylim(min(load.flops_per_second for load in loads) / 1e9 / _MARGIN, peaks.flops / 1e9 * _MARGIN)
    axes.set_xlabel("FLOP per byte (that the operators read and write)", fontsize=8.5)
    axes.set_ylabel("GFLOP/s", fontsize=8.5)
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.2, which="both")
    _shade_sides(axes, peaks)
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


def _shade_sides(axes: Axes, peaks: Peaks) -> None:
    """Shade where the memory sets the bound (left of the ridge), and where arithmetic does."""
    least, most = axes.get_xlim()
    for (name, color), start, end in zip(_SIDES, (least, peaks.ridge), (peaks.ridge, most), strict=True):
        axes.axvspan(start, end, color=color, alpha=0.12, linewidth=0, zorder=0)
        place, transform = (math.sqrt(start * end), 1.01), axes.get_xaxis_transform()
        axes.text(*place, name, fontsize=8.5, fontweight="bold", ha="center", va="bottom", transform=transform)


def _name_limits(axes: Axes, peaks: Peaks) -> None:
    least, most = axes.get_xlim()
    lowest, _ = axes.get_ylim()
    _write(axes, f"{peaks.flops / 1e9:.0f} GFLOP/s (matrix product)", (most, peaks.flops / 1e9), (-4, 4), ha="right")
    _write(axes, f"ridge {peaks.ridge:.1f}", (peaks.ridge, lowest), (3, 5), color="0.35")
    x = max(least, lowest * 1e9 / peaks.bytes) * 1.2  # where the slope begins to be seen
    slope = math.degrees(math.atan(peaks.bytes / 1e9))  # in the units of the axes
    along: dict[str, Any] = {"rotation": slope, "rotation_mode": "anchor", "transform_rotates_text": True}
    axes.text(x, peaks.bytes * x / 1e9 * _ABOVE, f"{peaks.bytes / 1e9:.1f} GB/s (copy)", fontsize=7.5, **along)


def _write(axes: Axes, text: str, point: tuple[float, float], offset: tuple[float, float], **style: Any) -> None:
    """Write near a point; the offset is in points."""
    written = axes.annotate(text, point, xytext=offset, textcoords="offset points", **{"fontsize": 7.5, **style})
    written.set_path_effects([withStroke(linewidth=2, foreground="white")])  # lines may pass below
