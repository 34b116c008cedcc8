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
