"""What the numbers say, in sentences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from shvit_pl.analysis.macro.study import Peaks, Study
from shvit_pl.analysis.running import described
from shvit_pl.designs.published import row_at
from shvit_pl.display.words import counted

_COLUMNS = {"gpu": "on a GPU", "cpu": "on a CPU", "onnx": "by ONNX Runtime on a CPU"}
_SOME_TIME = 0.05  # share of the time below which a stage is not spoken of
_NEAR = 1.2  # times the ridge, or over it: peaks measured anew may turn the side


def describe(conditions: Mapping[str, Any], peaks: Peaks) -> str:
    """The conditions and the device's peaks in two lines."""
    return (
        f"{described(conditions, 'on ')}\n"
        f"peaks, measured: {peaks.flops / 1e9:.0f} GFLOP/s (matrix product), "
        f"{peaks.bytes / 1e9:.1f} GB/s (copy); ridge at {peaks.ridge:.1f} FLOP per byte"
    )


def sentences(studies: Sequence[Study], peaks: Peaks, pixels: Mapping[str, int]) -> Iterator[str]:
    """Which stage takes most time, and how the designs compare.

    Args:
        studies: What was found.
        peaks: The device's.
        pixels: Side of the images of each design.
    """
    for study in studies:
        yield _slowest(study, peaks)
        yield _dearest(study)
    for other in studies[1:]:
        yield _ratio(studies[0], other, pixels)


def ratios(studies: Sequence[Study], pixels: Mapping[str, int]) -> list[dict[str, Any]]:
    """Images per second of each design over those of the first, here and in the paper (`None` where it has none)."""
    first = studies[0]
    return [
        {
            "designs": [first.name, other.name],
            "here": other.images_per_second[0] / first.images_per_second[0],
            **{f"paper_{name}": value for name, value in _of_paper(first, other, pixels).items()},
        }
        for other in studies[1:]
    ]


def percent(share: float) -> str:
    """A share as a sentence has it."""
    return "<1%" if 0 < share < 0.01 else f"{share:.0%}"


def _slowest(study: Study, peaks: Peaks) -> str:
    name = study.slowest()
    load = study.stages[name]
    most = max((each for each in study.parts if each.part.stage == name), key=lambda each: each.load.seconds)
    side, limit = _side(load.intensity / peaks.ridge)
    reached = load.flops_per_second / peaks.roof(load.intensity)
    return (
        f"{study.name}: {_named(name)} takes most: {_time_and_macs(study, name)} (most of it {most.part.operation}, "
        f"{counted(most.part.tokens, 'token')}). Its {load.intensity:.1f} FLOP per byte are {side} the ridge of "
        f"{peaks.ridge:.1f}: {limit} its bound, of which it reaches {reached:.0%}."
    )


def _side(of_ridge: float) -> tuple[str, str]:
    """Where an intensity lies, by its ratio to the ridge, and what that says."""
    if 1 / _NEAR <= of_ridge <= _NEAR:
        return "about at", "memory and arithmetic alike set"
    return ("below", "memory sets") if of_ridge < 1 else ("above", "arithmetic sets")


def _dearest(study: Study) -> str:
    """Of the stages that take some time, the one with most time per MAC."""
    whole = study.whole
    stages = {name: load for name, load in study.stages.items() if load.seconds > _SOME_TIME * whole.seconds}
    name = min(stages, key=lambda name: stages[name].flops_per_second)
    ratio = whole.flops_per_second / stages[name].flops_per_second
    return (
        f"{study.name}: {_named(name)} is dearest per MAC, {ratio:.1f} times the mean: {_time_and_macs(study, name)}."
    )


def _time_and_macs(study: Study, stage: str) -> str:
    load, whole = study.stages[stage], study.whole
    return f"{percent(load.seconds / whole.seconds)} of the time and {percent(load.flops / whole.flops)} of the MACs"


def _named(stage: str) -> str:
    return f"the {stage}" if stage in ("stem", "head") else stage


def _ratio(first: Study, other: Study, pixels: Mapping[str, int]) -> str:
    here = other.images_per_second[0] / first.images_per_second[0]
    text = (
        f"{other.name} / {first.name}: {other.images_per_second[0]:.3g} / {first.images_per_second[0]:.3g} images/s, "
        f"{here:.2f} times."
    )
    printed = [f"{ratio:.2f} {_COLUMNS[name]}" for name, ratio in _of_paper(first, other, pixels).items() if ratio]
    if not printed:
        return text
    rows = [row_at(study.design, pixels[study.name]) for study in (other, first)]
    sources = " / ".join(row.source for row in rows if row is not None)
    return f"{text} The paper's: {', '.join(printed)} ({sources})."


def _of_paper(first: Study, other: Study, pixels: Mapping[str, int]) -> dict[str, float | None]:
    rows = [row_at(study.design, pixels[study.name]) for study in (other, first)]  # other sizes say nothing of this
    return {name: _over(*(getattr(row, name, None) for row in rows)) for name in _COLUMNS}


def _over(above: float | None, below: float | None) -> float | None:
    return above / below if above and below else None
