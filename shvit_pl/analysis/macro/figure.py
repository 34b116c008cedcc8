"""One picture of designs side by side: where their time goes, and their stages on the device's roofline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from shvit_pl.analysis.macro.roofline import draw_roofline
from shvit_pl.analysis.macro.study import Peaks, Study
from shvit_pl.analysis.macro.text import percent
from shvit_pl.analysis.running import described
from shvit_pl.designs.cost import OPERATIONS
from shvit_pl.display.plots import BLACK, BLUE, GREY, ORANGE, SKY, VERMILION, caption_height, write_caption
from shvit_pl.display.words import counted

_COLOURS = dict(zip(OPERATIONS, (GREY, SKY, ORANGE, VERMILION, BLUE, BLACK), strict=True))
_GAP = 1.4  # rows between two designs, with the name of the lower one
_WIDTH = 12.0  # inches


def draw(studies: Sequence[Study], peaks: Peaks, conditions: Mapping[str, Any], said: Sequence[str]) -> Figure:
    """The figure: time stage by stage at the left, the roofline at the right, and below them what they say.

    Args:
        studies: What was found.
        peaks: The device's.
        conditions: Under which it was measured.
        said: The sentences that are printed.
    """
    rows = sum(len(study.stages) + _GAP for study in studies)
    height = max(4.2, 1.1 + 0.31 * rows) + caption_height(said, _WIDTH)
    figure = Figure(figsize=(_WIDTH, height), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.1, 1))
    _draw_stages(left, studies)
    draw_roofline(right, studies, peaks)
    figure.suptitle(described(conditions), fontsize=9)
    write_caption(figure, said)
    return figure


def _draw_stages(axes: Axes, studies: Sequence[Study]) -> None:
    row, ticks = 0.0, {}
    for study in studies:
        title = f"{study.name}: {study.images_per_second[0]:.3g} images/s, {1000 * study.whole.seconds:.3g} ms"
        axes.text(0.0, row, title, fontsize=8.5, fontweight="bold", va="center", transform=axes.get_yaxis_transform())
        for stage in study.stages:
            row += 1
            ticks[row] = _label(study, stage)
            _draw_stage(axes, row, study, stage)
        row += _GAP
    longest = max(load.seconds for study in studies for load in study.stages.values())
    axes.set_xlim(0, 1450 * longest)  # room for the words at the bars' ends
    axes.set_ylim(row - 0.4, -0.7)
    axes.set_yticks(list(ticks), list(ticks.values()), fontsize=7.5)
    axes.set_xlabel("milliseconds of a batch, by operation", fontsize=8.5)
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    _legend(axes, studies)


def _draw_stage(axes: Axes, row: float, study: Study, stage: str) -> None:
    left = 0.0
    for each in study.parts:
        if each.part.stage == stage:
            width = 1000 * each.load.seconds
            colour = _COLOURS[each.part.operation]
            axes.barh(row, width, 0.72, left, color=colour, edgecolor="white", linewidth=0.5)
            left += width
    load, whole = study.stages[stage], study.whole
    text = f"{percent(load.seconds / whole.seconds)} of time, {percent(load.flops / whole.flops)} of MACs"
    axes.annotate(text, (left, row), xytext=(4, 0), textcoords="offset points", fontsize=7, va="center")


def _label(study: Study, stage: str) -> str:
    last = next(each.part for each in reversed(study.parts) if each.part.stage == stage)
    return f"{stage}\n{counted(last.tokens, 'token')} x {last.channels}" if stage != "head" else "head"


def _legend(axes: Axes, studies: Sequence[Study]) -> None:
    used = {each.part.operation for study in studies for each in study.parts}
    handles = [axes.barh(0, 0, color=_COLOURS[name], label=name) for name in OPERATIONS if name in used]
    how: dict[str, Any] = {"bbox_to_anchor": (0.5, 0), "borderaxespad": 4.5}  # below the axis' own words
    axes.legend(handles=handles, loc="upper center", ncols=6, fontsize=7.5, frameon=False, **how)
