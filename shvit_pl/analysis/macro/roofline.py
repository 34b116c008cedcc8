"""The roofline: what the device allows at an arithmetic intensity, and what the stages of designs reach."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke

from shvit_pl.analysis.macro.study import Load, Peaks, Study
from shvit_pl.display.plots import BLACK, BLUE, GREEN, MARKERS, ORANGE, PURPLE, SKY, VERMILION, write_plainly

_COLOURS = (VERMILION, BLUE, GREEN, PURPLE, ORANGE, SKY, BLACK)
_SHOWN = 0.01  # share of the time below which a stage has no point
_ABOVE = 1.1  # the slope, where its name stands
_MARGIN = 2.0  # times the least and the largest
_SIDES = (("memory-bound", ORANGE), ("compute-bound", SKY))  # left and right of the ridge


def draw_roofline(axes: Axes, studies: Sequence[Study], peaks: Peaks) -> None:
    """Draw the roof, and the stages of every design that take some time as points with their names.

    Args:
        axes: Where.
        studies: What was found.
        peaks: The device's.
    """
    loads = [load for study in studies for load in _shown(study).values()]
    every = [*(load.intensity for load in loads), peaks.ridge]
    intensities = np.geomspace(min(every) / _MARGIN, max(every) * _MARGIN, 200)
    axes.plot(intensities, [peaks.roof(each) / 1e9 for each in intensities], color="0.25", linewidth=1.6)
    for number, study in enumerate(studies):
        _draw_study(axes, study, number)
    _make_logarithmic(axes)
    axes.set_xlim(intensities[0], intensities[-1])
    axes.set_ylim(min(load.flops_per_second for load in loads) / 1e9 / _MARGIN, peaks.flops / 1e9 * _MARGIN)
    axes.set_xlabel("FLOP per byte (that the operators read and write)", fontsize=8.5)
    axes.set_ylabel("GFLOP/s", fontsize=8.5)
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.2, which="both")
    _shade_sides(axes, peaks)
    _name_limits(axes, peaks)
    axes.legend(fontsize=7.5, loc="upper left", title="S stem; 1, 2, ... stages (from 1% of time)", title_fontsize=7.5)


def _draw_study(axes: Axes, study: Study, number: int) -> None:
    """Names are above the points of one design, and below those of the next: points may lie close."""
    colour, marker = _COLOURS[number % len(_COLOURS)], MARKERS[number % len(MARKERS)]
    stages = _shown(study)
    points = [(load.intensity, load.flops_per_second / 1e9) for load in stages.values()]
    axes.plot(*zip(*points, strict=True), marker, color=colour, markersize=7, markeredgecolor="white", label=study.name)
    offset = (0.0, 9.0 if number % 2 == 0 else -9.0)
    for stage, point in zip(stages, points, strict=True):
        text = stage.removeprefix("stage ")[0].upper()
        _write(axes, text, point, offset, color=colour, fontweight="bold", ha="center", va="center")


def _shown(study: Study) -> dict[str, Load]:
    return {name: load for name, load in study.stages.items() if load.seconds > _SHOWN * study.whole.seconds}


def _make_logarithmic(axes: Axes) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    for axis in (axes.xaxis, axes.yaxis):
        write_plainly(axis)


def _shade_sides(axes: Axes, peaks: Peaks) -> None:
    """Left of the ridge the memory sets the bound, right of it the arithmetic."""
    least, most = axes.get_xlim()
    for (name, colour), start, end in zip(_SIDES, (least, peaks.ridge), (peaks.ridge, most), strict=True):
        axes.axvspan(start, end, color=colour, alpha=0.12, linewidth=0, zorder=0)
        at_top = (math.sqrt(start * end), 1.01)
        transform = axes.get_xaxis_transform()
        axes.text(*at_top, name, fontsize=8.5, fontweight="bold", ha="center", va="bottom", transform=transform)


def _name_limits(axes: Axes, peaks: Peaks) -> None:
    least, most = axes.get_xlim()
    lowest, _ = axes.get_ylim()
    _write(axes, f"{peaks.flops / 1e9:.0f} GFLOP/s (matrix product)", (most, peaks.flops / 1e9), (-4, 4), ha="right")
    _write(axes, f"ridge {peaks.ridge:.1f}", (peaks.ridge, lowest), (3, 5), color="0.35")
    x = max(least, lowest * 1e9 / peaks.bytes) * 1.2  # where the slope begins to be seen
    slope = math.degrees(math.atan(peaks.bytes / 1e9))  # in the units of the axes
    along: dict[str, Any] = {"rotation": slope, "rotation_mode": "anchor", "transform_rotates_text": True}
    axes.text(x, peaks.bytes * x / 1e9 * _ABOVE, f"{peaks.bytes / 1e9:.1f} GB/s (copy)", fontsize=7.5, **along)


def _write(axes: Axes, text: str, point: tuple[float, float], offset: tuple[float, float], **how: Any) -> None:
    """Write near a point; the offset is in points."""
    written = axes.annotate(text, point, xytext=offset, textcoords="offset points", **{"fontsize": 7.5, **how})
    written.set_path_effects([withStroke(linewidth=2, foreground="white")])  # lines may pass below
