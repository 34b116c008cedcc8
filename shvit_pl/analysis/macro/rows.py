"""The rows of the study: one for each operation of each stage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from shvit_pl.analysis.macro.study import Load, MeasuredPart, Peaks, Study


def make_rows(studies: Sequence[Study]) -> list[dict[str, Any]]:
    """The rows of `macro.csv`: MACs are of one image, bytes and milliseconds of a batch."""
    return [_row(study, each) for study in studies for each in study.parts]


def stage_facts(study: Study, peaks: Peaks) -> dict[str, Any]:
    """What `macro.json` says of a design: its speed, and its stages on the roofline."""
    median, low, high = study.images_per_second
    return {
        "images_per_second": median,
        "images_per_second_q1": low,
        "images_per_second_q3": high,
        "slowest_stage": study.slowest(),
        "stages": {name: _of_load(load, peaks) for name, load in study.stages.items()},
        "whole": _of_load(study.whole, peaks),
    }


def _row(study: Study, each: MeasuredPart) -> dict[str, Any]:
    part, load, whole = each.part, each.load, study.whole
    low, high = each.time.quartiles
    return {
        "design": study.name,
        "stage": part.stage,
        "operation": part.operation,
        "tokens": part.tokens,
        "channels": part.channels,
        "receptive_field": each.receptive_field,
        "params": part.cost.params,
        "macs": part.cost.macs,
        "macs_percent": round(100 * load.flops / whole.flops, 3),
        "bytes": load.bytes,
        "milliseconds": round(1000 * load.seconds, 5),
        "milliseconds_q1": round(1000 * low * whole.seconds, 5),
        "milliseconds_q3": round(1000 * high * whole.seconds, 5),
        "time_percent": round(100 * each.time.share, 3),
        "flop_per_byte": round(load.intensity, 4),
        "gflop_per_second": round(load.flops_per_second / 1e9, 4),
    }


def _of_load(load: Load, peaks: Peaks) -> dict[str, Any]:
    return {
        "flop": load.flops,
        "bytes": load.bytes,
        "milliseconds": 1000 * load.seconds,
        "flop_per_byte": load.intensity,
        "gflop_per_second": load.flops_per_second / 1e9,
        "below_the_ridge": load.intensity < peaks.ridge,
    }
