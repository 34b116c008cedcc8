"""What is measured of a run beyond its accuracy: `robustness.json` in its folder."""

import json
from pathlib import Path
from typing import Any

from shvit_pl.files import write_whole
from shvit_pl.runs.folder import SUMMARY, read_summary

ROBUSTNESS = "robustness.json"

Measured = dict[str, Any]
"""Content of the file: `of` (the weights), and what was measured of them by kind."""


def weights_of(checkpoint: Path, averaged: bool) -> dict[str, Any]:
    """Return what tells weights of a run from others: a run that is trained on has other weights of the same name."""
    folder = checkpoint.absolute().parent.parent
    steps = read_summary(folder).get("steps_trained") if (folder / SUMMARY).is_file() else None
    return {"checkpoint": checkpoint.name, "averaged": averaged, "steps": steps}


def read_measured(folder: Path, weights: dict[str, Any]) -> Measured:
    """Return what was measured of these weights; only `of` where nothing was."""
    file = folder / ROBUSTNESS
    kept = json.loads(file.read_text()) if file.is_file() else {}
    return kept if kept.get("of") == weights else {"of": weights}


def keep_measured(folder: Path, measured: Measured) -> Path:
    """Write the file."""
    return write_whole(folder / ROBUSTNESS, (json.dumps(measured, indent=2) + "\n").encode())


def with_corruptions(before: Measured | None, now: Measured) -> Measured:
    """Return corruptions' results with those from before that were measured on the same images."""
    same = before is not None and all(before[key] == now[key] for key in ("data", "images", "clean"))
    accuracy = {**(before["accuracy"] if same and before is not None else {}), **now["accuracy"]}
    return {**now, "accuracy": accuracy, "mean": mean_accuracy(accuracy)}


def mean_accuracy(accuracy: dict[str, list[float]]) -> float:
    """Return the mean over corruptions and strengths; not relative to another network's, as mCE is."""
    values = [value for row in accuracy.values() for value in row]
    return sum(values) / len(values)
