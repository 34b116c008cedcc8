"""Under which conditions something was measured, in a line."""

from __future__ import annotations

from typing import Any

from shvit_pl.sweep.report.wording import around, counted, different, joined
from shvit_pl.sweep.results import Results


def summaries(results: Results) -> list[dict[str, Any]]:
    """Of all runs that are done."""
    return [run.summary for cell in results.cells for run in cell.done if run.summary]


def training_setting(results: Results) -> str:
    """Device, batch and precision of the runs."""
    known = {
        key: different(one.get(key) for one in summaries(results)) for key in ("device", "global_batch", "precision")
    }
    device = known["device"].replace("(1 threads)", "(1 thread)")  # as summaries have it
    return joined(device, around("batch ", known["global_batch"]), known["precision"])


def inference_setting(results: Results) -> str:
    """Device, batch, type, size of the images and threads; empty before it is measured."""
    measured: dict[str, Any] = (results.speed or {}).get("conditions") or {}
    known = {key: different([value]) for key, value in measured.items()}
    return joined(
        known.get("device", ""),
        around("batch ", known.get("batch", "")),
        known.get("dtype", ""),
        around("", known.get("image_size", ""), " px"),
        counted(known.get("threads", ""), "thread"),
    )
