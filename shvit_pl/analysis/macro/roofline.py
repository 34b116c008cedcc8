"""The roofline: what the device allows at an arithmetic intensity, and what the stages of designs reach."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from shvit_pl.analysis.macro.study import Peaks, Study

_COLOURS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")  # of Okabe and Ito
_MARKERS = "osD^vPX"
_MARGIN = 2.0  # times the least and the largest


def draw_roofline(axes: Axes, studies: Sequence[Study], peaks: Peaks) -> None:
    """Draw the roof, and every stage of every design as a numbered point.

    Args:
        axes: Where.
        studies: What was found.
        peaks: The device's.
    """
    loads = [load for study in studies for load in study.stages.values() if load.flops]
    every = [*(load.intensity for load in loads), peaks.ridge]
    intensities = np.geomspace(min(every) / _MARGIN, max(every) * _MARGIN, 200)
    roof = np.minimum(peaks.flops, peaks.bytes * intensities) / 1e9
    axes.plot(intensities, roof, color="0.25", linewidth=1.6)
    axes.axvline(peaks.ridge, color="0.6", linewidth=0.8, linestyle=":")
    for number, study in enumerate(studies):
        _draw_study(axes, study, _COLOURS[number % len(_COLOURS)], _MARKERS[number % len(_MARKERS)])
    axes.set_xscale("log")
    axes.set_yscale("log")
    lowest = min(load.flops_per_second for load in loads) / 1e9
    axes.set_ylim(lowest / _MARGIN, peaks.flops / 1e9 * _MARGIN)
    axes.set_xlim(intensities[0], intensities[-1])
    axes.set_xlabel("FLOP per byte (each layer's inputs, outputs and weights, once)", fontsize=8.5)
    axes.set_ylabel("GFLOP/s", fontsize=8.5)
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.2, which="both")
    _name_limits(axes, peaks, intensities[0])
    axes.legend(fontsize=7.5, loc="lower right", title="S stem, 1, 2, ... stages, H head", title_fontsize=7.5)


def _draw_study(axes: Axes, study: Study, colour: str, marker: str) -> None:
    for number, (stage, load) in enumerate(study.stages.items()):
        point = load.intensity, load.flops_per_second / 1e9
        label = study.name if number == 0 else None
        axes.plot(*point, marker, color=colour, markersize=12, markeredgecolor="white", alpha=0.9, label=label)
        text = stage.removeprefix("stage ")[0].upper()
        axes.annotate(text, point, ha="center", va="center_baseline", fontsize=7.5, color="white", fontweight="bold")


def _name_limits(axes: Axes, peaks: Peaks, least: float) -> None:
    product, copy = f"{peaks.flops / 1e9:.0f} GFLOP/s, matrix product", f"{peaks.bytes / 1e9:.1f} GB/s, copy"
    axes.annotate(
        product, (0.99, peaks.flops / 1e9), (0, 4), ("axes fraction", "data"), "offset points", fontsize=7.5, ha="right"
    )
    axes.annotate(
        copy,
        (least * 1.15, peaks.bytes * least * 1.15 / 1e9),
        xytext=(0, 6),
        textcoords="offset points",
        fontsize=7.5,
        rotation=45,
        rotation_mode="anchor",
        transform_rotates_text=True,
    )
    axes.annotate(f"ridge {peaks.ridge:.1f}", (peaks.ridge, 0.02), (3, 0), ("data", "axes fraction"), "offset points",
                  fontsize=7.5, color="0.35")  # fmt: skip
