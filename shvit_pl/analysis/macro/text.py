"""What the numbers say, in sentences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from shvit_pl.analysis.macro.study import Peaks, Study
from shvit_pl.deploy.benchmark.table import in_threads
from shvit_pl.designs.published import PaperRow, row_of

_COLUMNS = {"gpu": "on a GPU", "cpu": "on a CPU", "onnx": "by ONNX Runtime on a CPU"}


def describe(conditions: Mapping[str, Any], peaks: Peaks) -> str:
    """The conditions and the device's peaks in two lines."""
    return (
        f"batch {conditions['batch_size']}, {conditions['dtype']}, on {conditions['device']}, "
        f"{in_threads(conditions)}, torch {conditions['torch']}\n"
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


def _slowest(study: Study, peaks: Peaks) -> str:
    name, whole = study.slowest(), study.whole
    load = study.stages[name]
    below = load.intensity < peaks.ridge
    limit = "below the ridge: memory limits it" if below else "above the ridge: arithmetic limits it"
    most = max((each for each in study.parts if each.part.stage == name), key=lambda each: each.load.seconds)
    named = f"the {name}" if name in ("stem", "head") else name
    return (
        f"{study.name}: {named} takes most time, {load.seconds / whole.seconds:.0%} of it beside "
        f"{load.flops / whole.flops:.0%} of the MACs (most of that: {most.part.operation}, {most.part.tokens} tokens); "
        f"{load.intensity:.1f} FLOP per byte, {limit}"
    )


def _ratio(first: Study, other: Study, pixels: Mapping[str, int]) -> str:
    here = other.images_per_second[0] / first.images_per_second[0]
    text = (
        f"{other.name} / {first.name}: {other.images_per_second[0]:.3g} / {first.images_per_second[0]:.3g} images/s, "
        f"{here:.2f} times"
    )
    printed = [f"{ratio:.2f} {_COLUMNS[name]}" for name, ratio in _of_paper(first, other, pixels).items() if ratio]
    if not printed:
        return text
    rows = [_paper_row(study, pixels) for study in (other, first)]
    sources = " / ".join(row.source for row in rows if row is not None)
    return f"{text}; the paper's {', '.join(printed)} ({sources})"


def _of_paper(first: Study, other: Study, pixels: Mapping[str, int]) -> dict[str, float | None]:
    rows = _paper_row(other, pixels), _paper_row(first, pixels)
    return {name: _over(*(getattr(row, name, None) for row in rows)) for name in _COLUMNS}


def _paper_row(study: Study, pixels: Mapping[str, int]) -> PaperRow | None:
    """The paper's row at this image size; speeds at another one say nothing of it."""
    row = row_of(study.design, pixels[study.name])
    return row if row is not None and row.image_size == pixels[study.name] else None


def _over(above: float | None, below: float | None) -> float | None:
    return above / below if above and below else None
